//! Events → whole transactions: a state machine without I/O, so that tests can feed it whatever a server may send.
//!
//! ```text
//!            GTID                BEGIN            rows …                 XID, COMMIT
//! between ─────────► named ─────────────► inside ─────────► inside ─────────────────► between, and an Item
//!            GTID standalone: one statement (DDL), no XID
//! ```
//!
//! Nothing of a transaction leaves before its end was seen: a connection that is lost inside leaves no trace. The position
//! moves with the end of each transaction, whosever it is.

use std::collections::HashMap;
use std::sync::Arc;

use super::event::{self, Event, code};
use super::query::{self, Meaning};
use super::rows::{self, RowsError};
use super::table_map;
use crate::changes::{Interest, Item, LogError, Stop, Tables};
use crate::entry::{Change, Gtid, Position, RowChange, Shape, TableName, Transaction, Uuid, gtid_set};
use crate::wire::codec::{Malformed, Reader};

/// Memory that one transaction may take: a larger one stops the group rather than the process.
const MAX_TRANSACTION: usize = 2 << 30;
/// Transactions of others after which the position is told.
const PASSED: u32 = 256;

/// GTID flags (sql/log_event.h).
const FL_STANDALONE: u8 = 1;
const FL_GROUP_COMMIT_ID: u8 = 2;
const FL_PREPARED_XA: u8 = 64;
const FL_COMPLETED_XA: u8 = 128;

/// A table of the log, until its transaction ends.
enum Mapped {
    Wanted(Arc<Shape>),
    Mark,
    Signal,
    Other,
}

/// A transaction's name.
#[derive(Debug, Clone, Copy)]
enum Named {
    MariaDb(Gtid),
    MySql(Uuid, u64),
}

/// The state machine.
pub struct Assembler {
    tables: Box<dyn Tables>,
    /// Whether events have one, once that is known.
    checksums: Option<bool>,
    /// Events are counted by GTIDs; else by file and offset.
    by_gtid: bool,
    position: Position,
    /// The file that is being read.
    file: String,
    named: Option<Named>,
    /// Rows follow until XID or COMMIT; else each statement is a transaction of its own.
    inside: bool,
    prepared: bool,
    mapped: HashMap<u64, Mapped>,
    changes: Vec<RowChange>,
    savepoints: Vec<(String, usize)>,
    bytes: usize,
    marked: bool,
    signalled: bool,
    passed: u32,
    /// The log's second in which the position was told last.
    told_at: Option<u32>,
}

impl Assembler {
    /// Nothing read yet, everything before `from` done.
    #[must_use]
    pub fn new(from: Position, tables: Box<dyn Tables>) -> Assembler {
        let file = if let Position::File { file, .. } = &from { file.clone() } else { String::new() };
        Assembler {
            tables,
            checksums: None,
            by_gtid: !matches!(from, Position::File { .. }),
            position: from,
            file,
            named: None,
            inside: false,
            prepared: false,
            mapped: HashMap::new(),
            changes: Vec::new(),
            savepoints: Vec::new(),
            bytes: 0,
            marked: false,
            signalled: false,
            passed: 0,
            told_at: None,
        }
    }

    /// Behind the last whole transaction.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Takes one event.
    ///
    /// # Errors
    /// [`LogError::Lost`] for bytes that are no events, so that they are read again; a [`Stop`] for what cannot be applied.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Item>, LogError> {
        let event = event::read(bytes, self.checksums).map_err(lost)?;
        self.take(&event).map_err(|error| match error {
            Trouble::Bytes(malformed) => lost(malformed),
            Trouble::Stop { what, remedy } => {
                let mut after = self.position.clone();
                let skippable = self.end_position(&event, &mut after);
                let (transaction, after) = (self.id(&event), skippable.then_some(after));
                LogError::Stop(Box::new(Stop { transaction, what, remedy, after }))
            }
        })
    }

    fn take(&mut self, event: &Event<'_>) -> Result<Option<Item>, Trouble> {
        if let Some(sort) = rows::sort(event.code) {
            return self.rows(event, sort).map(|()| None);
        }
        match event.code {
            code::FORMAT_DESCRIPTION => self.checksums = Some(event::has_checksums(event.body)?),
            code::ROTATE => self.rotate(event)?,
            code::GTID => self.begin(event)?,
            code::MYSQL_GTID | code::ANONYMOUS_GTID => self.begin_mysql(event)?,
            code::TABLE_MAP => self.map(event.body)?,
            code::QUERY | code::QUERY_COMPRESSED => return self.query(event),
            code::XID => return self.commit(event),
            code::XA_PREPARE => return self.prepare(event),
            code::EXECUTE_LOAD_QUERY => self.load(event)?,
            code::HEARTBEAT => return Ok(Some(self.alive())),
            code::INCIDENT => {
                let what = "the authority lost events of its log (an INCIDENT event)".to_owned();
                let remedy = "load the standby again, then `switchover init GROUP --from POSITION`".to_owned();
                return Err(Trouble::Stop { what, remedy });
            }
            code::STOP
            | code::INTVAR
            | code::RAND
            | code::USER_VAR
            | code::BEGIN_LOAD_QUERY
            | code::IGNORABLE
            | code::ROWS_QUERY
            | code::PREVIOUS_GTIDS
            | code::ANNOTATE_ROWS
            | code::BINLOG_CHECKPOINT
            | code::GTID_LIST
            | code::START_ENCRYPTION => {}
            _ if event.flags & event::IGNORABLE != 0 => {}
            other => return Err(unknown(other)),
        }
        Ok(None)
    }

    fn rotate(&mut self, event: &Event<'_>) -> Result<(), Trouble> {
        let mut r = Reader::new(event.body);
        let offset = r.u64()?;
        self.file = String::from_utf8_lossy(r.rest()).into_owned();
        if !self.by_gtid {
            self.position = Position::File { file: self.file.clone(), offset };
        }
        Ok(())
    }

    fn begin(&mut self, event: &Event<'_>) -> Result<(), Trouble> {
        let mut r = Reader::new(event.body);
        let sequence = r.u64()?;
        let domain = r.u32()?;
        let flags = r.u8()?;
        if flags & FL_GROUP_COMMIT_ID != 0 {
            r.u64()?;
        }
        self.reset();
        self.named = Some(Named::MariaDb(Gtid { domain, server: event.server, sequence }));
        self.inside = flags & (FL_STANDALONE | FL_COMPLETED_XA) == 0;
        self.prepared = flags & FL_PREPARED_XA != 0;
        Ok(())
    }

    fn begin_mysql(&mut self, event: &Event<'_>) -> Result<(), Trouble> {
        self.reset();
        self.named = None;
        if event.code == code::MYSQL_GTID {
            let mut r = Reader::new(event.body);
            r.u8()?;
            let source = Uuid::read(r.bytes(16)?).unwrap_or_default();
            self.named = Some(Named::MySql(source, r.u64()?));
        }
        Ok(())
    }

    fn map(&mut self, body: &[u8]) -> Result<(), Trouble> {
        let (id, database, name) = table_map::names(body)?;
        let mapped = match self.tables.interest(database, name) {
            Interest::Other => Mapped::Other,
            Interest::Mark => Mapped::Mark,
            Interest::Signal => Mapped::Signal,
            Interest::Group => {
                let map = table_map::read(body)?;
                let name = TableName { database: map.database, name: map.name };
                Mapped::Wanted(Arc::new(Shape { name, types: map.types }))
            }
        };
        self.mapped.insert(id, mapped);
        Ok(())
    }

    fn rows(&mut self, event: &Event<'_>, sort: (rows::Kind, bool, bool)) -> Result<(), Trouble> {
        let id = table_map::table_id(event.body)?;
        let shape = match self.mapped.get(&id) {
            // "the tables of this statement are no longer needed" is a row event of no table
            None if id == 0xFF_FFFF || id == 0xFFFF_FFFF_FFFF => return Ok(()),
            None => return Err(Malformed("rows of a table that was not announced").into()),
            Some(Mapped::Other) => return Ok(()),
            Some(Mapped::Mark) => {
                self.marked = true;
                return Ok(());
            }
            Some(Mapped::Signal) => {
                self.signalled = true;
                return Ok(());
            }
            Some(Mapped::Wanted(shape)) => Arc::clone(shape),
        };
        // NO_FOREIGN_KEY_CHECKS_F
        let unchecked = event.body.get(6).is_some_and(|flags| flags & 2 != 0);
        let changes = rows::read(event.body, sort, &shape.types).map_err(|e| unreadable(e, &shape.name))?;
        self.bytes += event.body.len();
        if self.bytes > MAX_TRANSACTION {
            let what = format!("a transaction of more than {} GiB", MAX_TRANSACTION >> 30);
            let remedy = "apply it by hand, or load the standby again; smaller transactions need no mending".to_owned();
            return Err(Trouble::Stop { what, remedy });
        }
        self.changes.extend(changes.into_iter().map(|change| RowChange {
            table: Arc::clone(&shape),
            change,
            foreign_keys: !unchecked,
        }));
        Ok(())
    }

    fn query(&mut self, event: &Event<'_>) -> Result<Option<Item>, Trouble> {
        let query = query::read(event.body, false, event.code == code::QUERY_COMPRESSED)?;
        let meaning = query::meaning(&query, &*self.tables);
        match meaning {
            Meaning::Begin => {
                self.reset_unless_named();
                self.inside = true;
            }
            Meaning::Commit => return self.commit(event),
            Meaning::Rollback if !self.changes.is_empty() => {
                let what = "a transaction that was rolled back and left changes behind: a table of the group has an engine without transactions".to_owned();
                let remedy = "ALTER TABLE … ENGINE = InnoDB for every table of the group on the authority, then compare that table".to_owned();
                return Err(Trouble::Stop { what, remedy });
            }
            Meaning::Rollback => return self.commit(event),
            Meaning::Savepoint(name) => self.savepoints.push((name, self.changes.len())),
            Meaning::RollbackTo(name) => {
                if let Some((_, length)) = self.savepoints.iter().rev().find(|(known, _)| *known == name) {
                    self.changes.truncate(*length);
                }
            }
            Meaning::Truncate(database, name) => {
                let table = Arc::new(Shape { name: TableName { database, name }, types: Vec::new() });
                self.changes.push(RowChange { table, change: Change::Clear, foreign_keys: false });
            }
            Meaning::Ddl(tables) => return Err(ddl(&query, &tables)),
            Meaning::Statement(tables) => return Err(statement(&query, &tables)),
            Meaning::Nothing => {}
        }
        // DDL has no XID behind it
        if self.inside { Ok(None) } else { self.commit(event) }
    }

    fn load(&mut self, event: &Event<'_>) -> Result<(), Trouble> {
        let query = query::read(event.body, true, false)?;
        match query::meaning(&query, &*self.tables) {
            Meaning::Statement(tables) | Meaning::Ddl(tables) => Err(statement(&query, &tables)),
            _ => Ok(()),
        }
    }

    /// XA PREPARE: its rows count only if XA COMMIT follows, perhaps days later.
    fn prepare(&mut self, event: &Event<'_>) -> Result<Option<Item>, Trouble> {
        if self.changes.is_empty() || !self.prepared {
            return self.commit(event);
        }
        let what = "an XA transaction of the group: whether it commits is not known yet".to_owned();
        let remedy = "commit it (XA RECOVER; XA COMMIT …), then apply its rows by hand; keep XA off tables of a group with a standby".to_owned();
        Err(Trouble::Stop { what, remedy })
    }

    fn commit(&mut self, event: &Event<'_>) -> Result<Option<Item>, Trouble> {
        let id = self.id(event);
        let mut after = std::mem::replace(&mut self.position, Position::Gtids(Vec::new()));
        self.end_position(event, &mut after);
        self.position = after;
        let changes = std::mem::take(&mut self.changes);
        let (bytes, marked, signalled) = (self.bytes, self.marked, self.signalled);
        self.reset();
        self.named = None;
        if changes.is_empty() || marked {
            self.passed += 1;
            if signalled {
                self.passed = 0;
                return Ok(Some(Item::Signal(self.position.clone())));
            }
            // (a server that is never idle for a second sends no heartbeats)
            let second = event.timestamp;
            let later = self.told_at.is_some_and(|told| second > told);
            self.told_at = Some(self.told_at.map_or(second, |told| if later { second } else { told }));
            if self.passed < PASSED && !later && !self.tables.is_awaited() {
                return Ok(None);
            }
            self.passed = 0;
            return Ok(Some(Item::Passed(self.position.clone())));
        }
        let after = self.position.clone();
        let transaction = Transaction { id, committed_at: event.timestamp, changes, after, bytes };
        Ok(Some(Item::Transaction(transaction)))
    }

    fn alive(&mut self) -> Item {
        if self.passed == 0 {
            return Item::Alive;
        }
        self.passed = 0;
        Item::Passed(self.position.clone())
    }

    fn reset(&mut self) {
        self.mapped.clear();
        self.changes.clear();
        self.savepoints.clear();
        self.bytes = 0;
        self.marked = false;
        self.signalled = false;
        self.inside = false;
        self.prepared = false;
    }

    /// A BEGIN without a GTID before it starts afresh; with one, the GTID did.
    fn reset_unless_named(&mut self) {
        if self.named.is_none() {
            self.reset();
        }
    }

    /// The name of the transaction that `event` is part of.
    fn id(&self, event: &Event<'_>) -> String {
        match self.named {
            Some(Named::MariaDb(gtid)) => gtid.to_string(),
            Some(Named::MySql(source, number)) => gtid_set::gtid(source, number),
            None => format!("{}:{}", self.file, event.next),
        }
    }

    /// Moves a position behind the transaction that ends with `event`; false where the end is not known yet.
    fn end_position(&self, event: &Event<'_>, position: &mut Position) -> bool {
        match (position, self.named) {
            (position @ Position::Gtids(_), Some(Named::MariaDb(gtid))) => {
                position.pass(gtid);
                true
            }
            (Position::Set(set), Some(Named::MySql(source, number))) => {
                set.add(source, number);
                true
            }
            (Position::Gtids(_) | Position::Set(_) | Position::Journal { .. }, _) => false,
            (Position::File { file, offset }, _) => {
                self.file.clone_into(file);
                *offset = u64::from(event.next);
                !self.inside || event.code == code::XID
            }
        }
    }
}

/// Why an event could not be taken.
enum Trouble {
    Bytes(Malformed),
    Stop { what: String, remedy: String },
}

impl From<Malformed> for Trouble {
    fn from(malformed: Malformed) -> Trouble {
        Trouble::Bytes(malformed)
    }
}

fn lost(malformed: Malformed) -> LogError {
    LogError::Lost(format!("its log cannot be read: {malformed}"))
}

fn unknown(code: u8) -> Trouble {
    let remedy = match code {
        40 => "on the authority: SET GLOBAL binlog_transaction_compression = OFF",
        39 => "on the authority: SET GLOBAL binlog_row_value_options = ''",
        _ => "a server of this version is not supported as an authority: keep the group without a standby",
    };
    Trouble::Stop { what: format!("an event of a type that is not read (type {code})"), remedy: remedy.to_owned() }
}

fn unreadable(error: RowsError, table: &TableName) -> Trouble {
    let remedy = match error {
        RowsError::Malformed(malformed) => return Trouble::Bytes(malformed),
        RowsError::Partial => {
            "on the authority: SET GLOBAL binlog_row_image = FULL, and in the session that set it; then repair the rows of \
             this transaction on the standby"
        }
        RowsError::Type(140 | 141) => "on the authority: ALTER TABLE … MODIFY the column without COMPRESSED",
        RowsError::Type(_) => "give the column another type, or take the table out of the group",
        RowsError::Columns => "this is no server that the standby can follow",
    };
    Trouble::Stop { what: format!("{table}: {error}"), remedy: remedy.to_owned() }
}

fn shown(sql: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(sql).chars().take(300).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn ddl(query: &query::Query, tables: &str) -> Trouble {
    Trouble::Stop {
        what: format!("DDL on {tables}: {}", shown(&query.sql)),
        remedy: format!(
            "run it on the standby too, in database {}; then `switchover standby skip` this transaction",
            query.database
        ),
    }
}

fn statement(query: &query::Query, tables: &str) -> Trouble {
    Trouble::Stop {
        what: format!(
            "a statement on {tables} that was logged as a statement, not as rows, by thread {}: {}",
            query.thread,
            shown(&query.sql)
        ),
        remedy: "on the authority: SET GLOBAL binlog_format = ROW, and in that session; then repair its rows on the standby, and \
                 `switchover standby skip` this transaction"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
