//! The group's tables as a store has them: columns, keys and engines, read from information_schema.
//!
//! The applier reads the standby's to know how rows are written; `switchover init` reads both and compares them.
//!
//! Where a table is now is said here, and nowhere else: a description has the table's own name, by which logs and patterns know
//! it, and its place ([`crate::entry::place`]), which every statement of this layer names.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::backend::Backend;
use crate::backend::connection::QueryError;
use crate::changes::{Interest, Tables};
use crate::entry::{Change, Column, Kind, Row, Shape, TableName, Transaction};

/// How values of a key's column compare, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// By their bytes.
    Exact,
    /// Printable ASCII without regard to case and trailing spaces; others cannot be told.
    Ascii,
    /// Cannot be told.
    Unknown,
}

/// A key that a row takes part in: one of its own, or one that a foreign key refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// The same number for the key and for every foreign key that refers to it.
    pub id: u64,
    /// Columns, by their index, and how they compare.
    pub columns: Vec<(usize, Fold)>,
}

/// A table of a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// Its own name.
    pub name: TableName,
    /// Whether it is sealed by `rename` at this moment: its place is another.
    pub sealed: bool,
    /// Whether there is one at either place: this is the one that is sealed, if the store is.
    pub twice: bool,
    /// Its engine.
    pub engine: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Columns of the key by which rows are found: the primary key, else a unique key without NULL; empty without either.
    pub key: Vec<usize>,
    /// Whether that key is the primary key.
    pub primary: bool,
    /// Whether the authority's table has the very same columns, as far as that was seen.
    pub alike: bool,
    /// Whether that key is its only unique one, and the store is one where an upsert can then be nothing but an update.
    pub only_key: bool,
    /// Keys that decide which transactions are in each other's way.
    pub uses: Vec<KeyUse>,
    /// What happens to other rows when one of this table goes, or its key changes: the engine does it, and no log has it.
    pub cascades: Vec<Cascade>,
    /// Triggers on it.
    pub triggers: Vec<String>,
    /// Whether it keeps old versions of rows (WITH SYSTEM VERSIONING).
    pub versioned: bool,
}

/// A foreign key of another table that refers to this one and acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cascade {
    /// The columns of this table that it refers to.
    pub columns: Vec<usize>,
    /// ON DELETE CASCADE or SET NULL.
    pub on_delete: bool,
    /// ON UPDATE CASCADE or SET NULL.
    pub on_update: bool,
}

impl Description {
    /// Where it is.
    #[must_use]
    pub fn place(&self) -> TableName {
        if self.sealed { self.name.sealed().unwrap_or_else(|| self.name.clone()) } else { self.name.clone() }
    }

    /// Whether the engine did more than this change says: cascades are no part of a binlog, each server does its own.
    #[must_use]
    pub fn cascades_with(&self, change: &Change) -> bool {
        let changed = |before: &Row, after: &Row, cascade: &Cascade| {
            cascade.on_update && cascade.columns.iter().any(|at| before.get(*at) != after.get(*at))
        };
        match change {
            Change::Delete(_) => self.cascades.iter().any(|c| c.on_delete),
            Change::Update(before, after) => self.cascades.iter().any(|c| changed(before, after, c)),
            Change::Insert(_) | Change::Clear => false,
        }
    }
}

/// Whether a transaction must be repeated change by change, with the standby's own foreign keys at work.
#[must_use]
pub fn cascades(transaction: &Transaction, catalog: &Catalog) -> bool {
    let mut known = Known::default();
    transaction
        .changes
        .iter()
        .any(|c| c.foreign_keys && known.of(catalog, &c.table).is_some_and(|table| table.cascades_with(&c.change)))
}

/// Looks tables up: the one that was asked for last is at hand, as the rows of one table mostly follow each other.
#[derive(Default)]
pub(super) struct Known<'c> {
    last: Option<(*const Shape, Option<&'c Arc<Description>>)>,
}

impl<'c> Known<'c> {
    /// The standby's table of a shape.
    pub(super) fn of(&mut self, catalog: &'c Catalog, shape: &Arc<Shape>) -> Option<&'c Arc<Description>> {
        match self.last {
            Some((at, table)) if at == Arc::as_ptr(shape) => table,
            _ => {
                let table = catalog.get(&shape.name);
                self.last = Some((Arc::as_ptr(shape), table));
                table
            }
        }
    }
}

/// Tables by name.
pub type Catalog = BTreeMap<TableName, Arc<Description>>;

type Cells = Vec<Option<String>>;

fn cell(row: &Cells, at: usize) -> &str {
    row.get(at).and_then(Option::as_deref).unwrap_or_default()
}

fn named(row: &Cells) -> TableName {
    TableName { database: cell(row, 0).to_owned(), name: cell(row, 1).to_owned() }
}

async fn rows(backend: &mut Backend, sql: &str) -> Result<Vec<Cells>, QueryError> {
    let text = |value: Option<Vec<u8>>| value.map(|v| String::from_utf8_lossy(&v).into_owned());
    let rows = backend.query(sql.as_bytes()).await?.rows;
    Ok(rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect())
}

const SYSTEM: &str = "('mysql', 'information_schema', 'performance_schema', 'sys', 'switchover')";

/// Reads the tables that are the group's, wherever they are.
///
/// # Errors
/// As the store's.
pub async fn read(backend: &mut Backend, tables: &dyn Tables) -> Result<Catalog, QueryError> {
    let found = read_places(backend, tables).await?;
    let mut catalog: BTreeMap<TableName, Description> = BTreeMap::new();
    for table in found.into_values() {
        match catalog.entry(table.name.clone()) {
            Entry::Vacant(place) => drop(place.insert(table)),
            Entry::Occupied(mut known) => {
                // the one that a seal has moved is the group's; who may not know that there is a seal asks for `twice`
                if table.sealed {
                    drop(known.insert(table));
                }
                known.get_mut().twice = true;
            }
        }
    }
    Ok(catalog.into_iter().map(|(name, table)| (name, Arc::new(table))).collect())
}

/// The tables by their places.
async fn read_places(
    backend: &mut Backend,
    tables: &dyn Tables,
) -> Result<BTreeMap<TableName, Description>, QueryError> {
    let mut found: BTreeMap<TableName, Description> = BTreeMap::new();
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_TYPE FROM information_schema.TABLES \
         WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND TABLE_SCHEMA NOT IN {SYSTEM}"
    );
    for row in rows(backend, &sql).await? {
        let place = named(&row);
        let (name, sealed) = place.unsealed().map_or_else(|| (place.clone(), false), |name| (name, true));
        if tables.interest(&name.database, &name.name) == Interest::Group {
            let versioned = cell(&row, 3) == "SYSTEM VERSIONED";
            let engine = cell(&row, 2).to_owned();
            found.insert(place, Description { name, sealed, engine, versioned, ..Description::default() });
        }
    }
    if found.is_empty() {
        return Ok(found);
    }
    let mut databases: Vec<String> = found.keys().map(|name| super::schema::literal(&name.database)).collect();
    databases.dedup();
    let within = databases.join(", ");
    columns(backend, &within, &mut found).await?;
    keys(backend, &within, &mut found).await?;
    references(backend, &within, &mut found).await?;
    let sql = format!(
        "SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS \
         WHERE EVENT_OBJECT_SCHEMA IN ({within})"
    );
    for row in rows(backend, &sql).await? {
        if let Some(table) = found.get_mut(&named(&row)) {
            table.triggers.push(cell(&row, 2).to_owned());
        }
    }
    Ok(found)
}

async fn columns(
    backend: &mut Backend,
    within: &str,
    found: &mut BTreeMap<TableName, Description>,
) -> Result<(), QueryError> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, \
         CHARACTER_OCTET_LENGTH, EXTRA FROM information_schema.COLUMNS WHERE TABLE_SCHEMA IN ({within}) \
         ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
    );
    for row in rows(backend, &sql).await? {
        let Some(table) = found.get_mut(&named(&row)) else { continue };
        table.columns.push(Column {
            name: cell(&row, 2).to_owned(),
            kind: Kind::of(cell(&row, 3), cell(&row, 4), cell(&row, 5), cell(&row, 7)),
            words: match cell(&row, 6) {
                "" => cell(&row, 4).to_owned(),
                collation => format!("{} COLLATE {collation}", cell(&row, 4)),
            },
            generated: cell(&row, 8).to_uppercase().contains("GENERATED"),
            collation: cell(&row, 6).to_owned(),
        });
    }
    Ok(())
}

/// Collations under which printable ASCII differs by case at the most.
fn fold(column: &Column, prefix: bool) -> Fold {
    let Kind::Text(_) = column.kind else { return if prefix { Fold::Unknown } else { Fold::Exact } };
    let collation = column.collation.to_lowercase();
    let simple = ["_general_ci", "_unicode_ci", "_unicode_520_ci", "_0900_ai_ci", "_general_nopad_ci"];
    let known = collation == "latin1_swedish_ci"
        || collation == "ascii_general_ci"
        || collation.ends_with("_bin")
        || simple.iter().any(|end| collation.ends_with(end))
        || (collation.contains("uca1400") && collation.ends_with("_ci") && collation.matches('_').count() <= 4);
    if known && !prefix { Fold::Ascii } else { Fold::Unknown }
}

fn number(table: &TableName, columns: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    table.hash(&mut hasher);
    columns.iter().map(|c| c.to_lowercase()).collect::<Vec<_>>().hash(&mut hasher);
    hasher.finish()
}

/// An index as information_schema lists it.
#[derive(Default)]
struct Index {
    unique: bool,
    nullable: bool,
    prefix: bool,
    columns: Vec<String>,
}

async fn keys(
    backend: &mut Backend,
    within: &str,
    found: &mut BTreeMap<TableName, Description>,
) -> Result<(), QueryError> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, NON_UNIQUE, COLUMN_NAME, SUB_PART, NULLABLE \
         FROM information_schema.STATISTICS WHERE TABLE_SCHEMA IN ({within}) \
         ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"
    );
    let mut indexes: BTreeMap<(TableName, String), Index> = BTreeMap::new();
    for row in rows(backend, &sql).await? {
        let index = indexes.entry((named(&row), cell(&row, 2).to_owned())).or_default();
        index.unique = cell(&row, 3) == "0";
        index.nullable |= cell(&row, 6) == "YES";
        index.prefix |= !cell(&row, 5).is_empty();
        index.columns.push(cell(&row, 4).to_owned());
    }
    let version = rows(backend, "SELECT VERSION()").await?;
    let maria = version.first().is_some_and(|row| cell(row, 0).to_lowercase().contains("mariadb"));
    // the primary key first, then the others by name
    let mut list: Vec<((TableName, String), Index)> = indexes.into_iter().filter(|(_, index)| index.unique).collect();
    list.sort_by_key(|((_, name), _)| name != "PRIMARY");
    for ((table, name), index) in list {
        let Some(table) = found.get_mut(&table) else { continue };
        let Some(columns) = positions(table, &index.columns) else { continue };
        table.only_key = maria && table.uses.is_empty();
        if table.key.is_empty() && !index.nullable && (name == "PRIMARY" || !index.prefix) {
            table.key.clone_from(&columns);
            table.primary = name == "PRIMARY";
        }
        let id = number(&table.place(), &index.columns);
        let fold = |at: &usize| table.columns.get(*at).map_or(Fold::Unknown, |column| fold(column, index.prefix));
        let columns = columns.iter().map(|at| (*at, fold(at))).collect();
        table.uses.push(KeyUse { id, columns });
    }
    Ok(())
}

fn positions(table: &Description, columns: &[String]) -> Option<Vec<usize>> {
    let at = |name: &String| table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
    columns.iter().map(at).collect()
}

/// A foreign key as information_schema lists it.
#[derive(Default)]
struct Foreign {
    to: TableName,
    columns: Vec<String>,
    referenced: Vec<String>,
    on_delete: bool,
    on_update: bool,
}

async fn references(
    backend: &mut Backend,
    within: &str,
    found: &mut BTreeMap<TableName, Description>,
) -> Result<(), QueryError> {
    let sql = format!(
        "SELECT k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.COLUMN_NAME, k.REFERENCED_TABLE_SCHEMA, \
         k.REFERENCED_TABLE_NAME, k.REFERENCED_COLUMN_NAME, r.DELETE_RULE, r.UPDATE_RULE \
         FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.REFERENTIAL_CONSTRAINTS r \
         ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME AND r.TABLE_NAME = k.TABLE_NAME \
         WHERE k.TABLE_SCHEMA IN ({within}) AND k.REFERENCED_TABLE_NAME IS NOT NULL \
         ORDER BY k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION"
    );
    let mut foreign: BTreeMap<(TableName, String), Foreign> = BTreeMap::new();
    for row in rows(backend, &sql).await? {
        let key = foreign.entry((named(&row), cell(&row, 2).to_owned())).or_default();
        key.to = TableName { database: cell(&row, 4).to_owned(), name: cell(&row, 5).to_owned() };
        key.columns.push(cell(&row, 3).to_owned());
        key.referenced.push(cell(&row, 6).to_owned());
        let acts = |rule: &str| !matches!(rule.to_uppercase().as_str(), "RESTRICT" | "NO ACTION");
        key.on_delete = acts(cell(&row, 7));
        key.on_update = acts(cell(&row, 8));
    }
    for ((from, _), key) in foreign {
        // both ends compare as the less certain of the two
        let folds = |table: &TableName, columns: &[String]| -> Option<Vec<(usize, Fold)>> {
            let table = found.get(table)?;
            let fold = |at: usize| (at, table.columns.get(at).map_or(Fold::Unknown, |column| fold(column, false)));
            Some(positions(table, columns)?.into_iter().map(fold).collect())
        };
        let (Some(child), Some(parent)) = (folds(&from, &key.columns), folds(&key.to, &key.referenced)) else {
            continue;
        };
        let id = number(&key.to, &key.referenced);
        if let Some(table) = found.get_mut(&key.to).filter(|_| key.on_delete || key.on_update) {
            let columns = parent.iter().map(|(at, _)| *at).collect();
            table.cascades.push(Cascade { columns, on_delete: key.on_delete, on_update: key.on_update });
        }
        let uses = [(from, child), (key.to, parent)];
        for (table, columns) in uses {
            if let Some(table) = found.get_mut(&table)
                && !table.uses.iter().any(|known| known.id == id && known.columns == columns)
            {
                table.uses.push(KeyUse { id, columns });
            }
        }
    }
    Ok(())
}

/// A catalog for unit tests: `d.t (id INT PRIMARY KEY, u VARCHAR(100) UNIQUE COLLATE utf8mb4_general_ci)`.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::entry::{LoggedType, Shape};

    pub(crate) fn name() -> TableName {
        TableName { database: "d".into(), name: "t".into() }
    }

    pub(crate) fn shape() -> Shape {
        Shape { name: name(), types: vec![LoggedType { code: 3, meta: 0 }, LoggedType { code: 15, meta: 400 }] }
    }

    pub(crate) fn catalog() -> Catalog {
        let column = |name: &str, kind: Kind, collation: &str| Column {
            name: name.into(),
            kind,
            words: String::new(),
            generated: false,
            collation: collation.into(),
        };
        let columns = vec![
            column("id", Kind::Int { bytes: 4, unsigned: false }, ""),
            column("u", Kind::Text("utf8mb4".into()), "utf8mb4_general_ci"),
        ];
        let uses =
            vec![KeyUse { id: 1, columns: vec![(0, Fold::Exact)] }, KeyUse { id: 2, columns: vec![(1, Fold::Ascii)] }];
        let table = Description { name: name(), columns, key: vec![0], uses, ..Description::default() };
        [(name(), Arc::new(table))].into()
    }
}
