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

const SYSTEM: &str = "('mysql', 'information_schema', 'performance_schema', 'sys')";

impl Catalog {
    /// Reads it all.
    pub(super) async fn read(conn: &mut Conn) -> mysql_async::Result<Catalog> {
        let mut catalog = Catalog {
            tables: select(conn, "TABLE_SCHEMA, TABLE_NAME", "TABLES", "TABLE_SCHEMA")
                .await?
                .iter()
                .map(|row| named(row, 0))
                .collect(),
            ..Catalog::default()
        };
        let views = select(conn, "TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION", "VIEWS", "TABLE_SCHEMA").await?;
        catalog.views = catalog.bodies(&views);
        let routines =
            select(conn, "ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_DEFINITION", "ROUTINES", "ROUTINE_SCHEMA").await?;
        catalog.routines = catalog.bodies(&routines);
        let events = select(conn, "EVENT_SCHEMA, EVENT_NAME, EVENT_DEFINITION", "EVENTS", "EVENT_SCHEMA").await?;
        catalog.events = catalog.bodies(&events);
        let columns = "TRIGGER_SCHEMA, TRIGGER_NAME, ACTION_STATEMENT, EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE";
        let triggers = select(conn, columns, "TRIGGERS", "TRIGGER_SCHEMA").await?;
        catalog.triggers = triggers.iter().map(|row| Trigger { body: body(row), table: named(row, 3) }).collect();
        let columns =
            "DISTINCT TABLE_SCHEMA, TABLE_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, CONSTRAINT_NAME";
        let keys = select(conn, columns, "KEY_COLUMN_USAGE", "TABLE_SCHEMA").await?;
        let keys = keys.iter().filter(|row| row.get(3).is_some_and(Option::is_some));
        catalog.foreign_keys = keys
            .map(|row| ForeignKey { constraint: cell(row, 4), table: named(row, 0), references: named(row, 2) })
            .collect();
        Ok(catalog)
    }

    fn bodies(&mut self, rows: &[Cells]) -> Vec<Body> {
        self.unreadable +=
            rows.iter().filter(|row| row.get(2).is_none_or(|text| text.as_deref().is_none_or(str::is_empty))).count();
        rows.iter().map(body).collect()
    }
}

async fn select(conn: &mut Conn, columns: &str, table: &str, schema: &str) -> mysql_async::Result<Vec<Cells>> {
    rows(conn, &format!("SELECT {columns} FROM information_schema.{table} WHERE {schema} NOT IN {SYSTEM}")).await
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
