//! What a store says is on it, as far as routing must know: tables, and what hides tables behind other names.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

/// Tables, views, triggers, routines, events and foreign keys of one store, system databases left out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Catalog {
    /// Tables and views.
    pub(super) tables: Vec<Named>,
    pub(super) views: Vec<Body>,
    pub(super) triggers: Vec<Trigger>,
    pub(super) routines: Vec<Body>,
    pub(super) events: Vec<Body>,
    pub(super) foreign_keys: Vec<ForeignKey>,
    /// Views and routines whose text this account may not read.
    pub(super) unreadable: usize,
    /// Catalog views that this store does not have.
    pub(super) absent: Vec<&'static str>,
}

/// A name on a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    pub(super) database: String,
    pub(super) name: String,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.name)
    }
}

/// Something with a text that may name tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) name: Named,
    pub(super) text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trigger {
    pub(super) body: Body,
    pub(super) table: Named,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForeignKey {
    pub(super) constraint: String,
    pub(super) table: Named,
    pub(super) references: Named,
}

/// Cells of one row, as text.
type Cells = Vec<Option<String>>;

const NO_TABLE: u16 = 1146;
const UNKNOWN_TABLE: u16 = 1109;
const UNKNOWN_COLUMN: u16 = 1054;
const SYSTEM: &str = "('mysql', 'information_schema', 'performance_schema', 'sys')";

impl Catalog {
    /// Reads it all.
    pub(super) async fn read(conn: &mut Conn) -> mysql_async::Result<Catalog> {
        let mut catalog = Catalog::default();
        let tables = catalog.select(conn, "TABLE_SCHEMA, TABLE_NAME", "TABLES", "TABLE_SCHEMA").await?;
        catalog.tables = tables.iter().map(|row| named(row, 0)).collect();
        let columns = "TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION";
        let views = catalog.select(conn, columns, "VIEWS", "TABLE_SCHEMA").await?;
        catalog.views = catalog.bodies(&views);
        let columns = "ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_DEFINITION";
        let routines = catalog.select(conn, columns, "ROUTINES", "ROUTINE_SCHEMA").await?;
        catalog.routines = catalog.bodies(&routines);
        let columns = "EVENT_SCHEMA, EVENT_NAME, EVENT_DEFINITION";
        let events = catalog.select(conn, columns, "EVENTS", "EVENT_SCHEMA").await?;
        catalog.events = catalog.bodies(&events);
        let columns = "TRIGGER_SCHEMA, TRIGGER_NAME, ACTION_STATEMENT, EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE";
        let triggers = catalog.select(conn, columns, "TRIGGERS", "TRIGGER_SCHEMA").await?;
        catalog.triggers = triggers.iter().map(|row| Trigger { body: body(row), table: named(row, 3) }).collect();
        let columns =
            "DISTINCT TABLE_SCHEMA, TABLE_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, CONSTRAINT_NAME";
        let keys = catalog.select(conn, columns, "KEY_COLUMN_USAGE", "TABLE_SCHEMA").await?;
        let keys = keys.iter().filter(|row| row.get(3).is_some_and(Option::is_some));
        catalog.foreign_keys = keys
            .map(|row| ForeignKey { constraint: cell(row, 4), table: named(row, 0), references: named(row, 2) })
            .collect();
        Ok(catalog)
    }

    /// The rows of a catalog view outside the system's databases; none where the store has no such view or column.
    async fn select(
        &mut self,
        conn: &mut Conn,
        columns: &str,
        view: &'static str,
        schema: &str,
    ) -> mysql_async::Result<Vec<Cells>> {
        let sql = format!("SELECT {columns} FROM information_schema.{view} WHERE {schema} NOT IN {SYSTEM}");
        match rows(conn, &sql).await {
            Err(mysql_async::Error::Server(error))
                if matches!(error.code, NO_TABLE | UNKNOWN_TABLE | UNKNOWN_COLUMN) =>
            {
                self.absent.push(view);
                Ok(Vec::new())
            }
            other => other,
        }
    }

    fn bodies(&mut self, rows: &[Cells]) -> Vec<Body> {
        self.unreadable +=
            rows.iter().filter(|row| row.get(2).is_none_or(|text| text.as_deref().is_none_or(str::is_empty))).count();
        rows.iter().map(body).collect()
    }
}

/// Runs a query in the text protocol; whatever comes is text.
pub(super) async fn rows(conn: &mut Conn, sql: &str) -> mysql_async::Result<Vec<Cells>> {
    let rows: Vec<Row> = conn.query(sql).await?;
    let text = |value: Value| match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    };
    Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
}

fn cell(row: &Cells, index: usize) -> String {
    row.get(index).cloned().flatten().unwrap_or_default()
}

fn named(row: &Cells, index: usize) -> Named {
    Named { database: cell(row, index), name: cell(row, index + 1) }
}

fn body(row: &Cells) -> Body {
    Body { name: named(row, 0), text: cell(row, 2) }
}
