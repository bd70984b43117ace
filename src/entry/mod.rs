//! Committed transactions as data: what a change log yields and a standby applies (layer L1: pure).
//!
//! ```text
//! changes/ (binlog, journal) ──► Transaction { id, changes, after } ──► standby/ (merge, partition, apply)
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`value`] | one column's value, exactly as the authority stored it |
//! | [`mod@column`] | what a column is on the standby, and how a value is written for it as an SQL literal |
//! | [`codec`] | a transaction as bytes, to be kept in a table |
//! | [`position`] | where in the log a transaction ends: GTIDs, file and offset, or a journal's entry |
//! | [`gtid_set`] | MySQL's sets of GTIDs |
//! | [`place`] | where a table is while its store is sealed by `rename` |
//! | [`temporal`], [`decimal`] | MySQL's packed dates, times and decimals as text |
//!
//! Exactness is the invariant (DESIGN.md 3): a value that is read from the log, written as a literal and stored again is the
//! same bytes. `tests/it/standby/types.rs` tries to break it with every column type and character set on a real server.

pub mod codec;
pub mod column;
pub mod decimal;
pub mod gtid_set;
pub mod place;
pub mod position;
pub mod temporal;
pub mod value;

use std::sync::Arc;

pub use column::{Column, Kind};
pub use gtid_set::GtidSet;
pub use position::{Gtid, Position, Uuid};
pub use value::Value;

/// A table by its full name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
}

impl TableName {
    /// `` `db`.`t` ``, quoted for SQL.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.database), quoted(&self.name))
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.name)
    }
}

/// An identifier in backticks.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The values of one row, in the order of the table's columns.
pub type Row = Box<[Value]>;

/// What happened to one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A row that was not there before.
    Insert(Row),
    /// A row that was there, before and after.
    Update(Row, Row),
    /// A row that is no longer there.
    Delete(Row),
    /// TRUNCATE TABLE: none of its rows is there any more.
    Clear,
}

/// A change of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct RowChange {
    /// The table, with the shape that the log says it had.
    pub table: Arc<Shape>,
    /// The change.
    pub change: Change,
    /// Whether foreign keys were at work when it was made.
    pub foreign_keys: bool,
}

/// A table as the log describes it: columns by their types alone; names are the standby's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Which table.
    pub name: TableName,
    /// The log's type of each column.
    pub types: Vec<LoggedType>,
}

/// A column's type as a binlog writes it: MYSQL_TYPE_… and its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedType {
    /// MYSQL_TYPE_…; the real one where the log hides ENUM and SET behind STRING.
    pub code: u8,
    /// Type-specific: length, precision and scale, decimals.
    pub meta: u16,
}

/// A whole committed transaction, as far as it concerns a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    /// Its name in the log: a GTID, or file and offset.
    pub id: String,
    /// When it committed: seconds since 1970, by the authority's clock.
    pub committed_at: u32,
    /// Its changes of the group's tables, in order.
    pub changes: Vec<RowChange>,
    /// Where the log goes on after it.
    pub after: Position,
    /// Bytes that it took in the log.
    pub bytes: usize,
}
