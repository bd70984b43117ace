//! Why a session of `pool: transaction` must keep its connections: state that a connection holds and that cannot be carried to
//! another one. Server tracking alone cannot tell, so the facts of the statements decide, and doubt pins.

use super::Session;
use crate::sql::facts::{Access, Assignment, Facts, Flags, Kind};
use crate::wire::Status;
use crate::wire::reply::Outcome;

/// One reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Pin {
    /// A transaction is open.
    Transaction,
    /// A temporary table.
    TemporaryTable,
    /// LOCK TABLES.
    TableLock,
    /// GET_LOCK() and its like: whether one is held is not known.
    UserLock,
    /// `PREPARE name FROM …`.
    TextStatement,
    /// A cursor is open.
    Cursor,
    /// HANDLER … OPEN.
    Handler,
    /// The last statement left warnings or an error that the next may ask for.
    Warnings,
    /// A session variable that cannot be set again elsewhere (wait_timeout, timestamp …), or a role.
    SessionVariable,
    /// A SET that counts for the next statement or transaction only.
    NextStatement,
    /// A stored routine or compound statement ran: what it left behind is not known.
    Routine,
    /// XA.
    Xa,
    /// FLUSH … WITH READ LOCK, BACKUP STAGE and other statements about the server.
    Admin,
    /// A statement that the proxy does not understand.
    Unknown,
    /// The account's secret is not known: its connection cannot be opened again.
    Secret,
    /// A prepared statement that asks for the statement before it (FOUND_ROWS(), ROW_COUNT()).
    PreparedDiagnostics,
    /// COM_REGISTER_SLAVE.
    Replica,
}

impl Pin {
    /// All of them.
    pub const ALL: [Pin; 17] = [
        Pin::Transaction,
        Pin::TemporaryTable,
        Pin::TableLock,
        Pin::UserLock,
        Pin::TextStatement,
        Pin::Cursor,
        Pin::Handler,
        Pin::Warnings,
        Pin::SessionVariable,
        Pin::NextStatement,
        Pin::Routine,
        Pin::Xa,
        Pin::Admin,
        Pin::Unknown,
        Pin::Secret,
        Pin::PreparedDiagnostics,
        Pin::Replica,
    ];

    /// As operators see it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Pin::Transaction => "transaction",
            Pin::TemporaryTable => "temporary_table",
            Pin::TableLock => "table_lock",
            Pin::UserLock => "user_lock",
            Pin::TextStatement => "text_statement",
            Pin::Cursor => "cursor",
            Pin::Handler => "handler",
            Pin::Warnings => "warnings",
            Pin::SessionVariable => "session_variable",
            Pin::NextStatement => "next_statement",
            Pin::Routine => "routine",
            Pin::Xa => "xa",
            Pin::Admin => "admin",
            Pin::Unknown => "unknown_statement",
            Pin::Secret => "secret",
            Pin::PreparedDiagnostics => "prepared_diagnostics",
            Pin::Replica => "replica",
        }
    }
}

/// A set of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pins(u32);

impl Pins {
    /// From [`Pins::bits`].
    #[must_use]
    pub fn from_bits(bits: u32) -> Pins {
        Pins(bits)
    }

    /// For an atomic.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether nothing pins.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds or removes one.
    pub fn set(&mut self, pin: Pin, on: bool) {
        let bit = 1 << pin as u8;
        if on { self.0 |= bit } else { self.0 &= !bit }
    }

    /// Whether it has this one.
    #[must_use]
    pub fn has(self, pin: Pin) -> bool {
        self.0 & (1 << pin as u8) != 0
    }

    /// Its reasons by name.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Pin::ALL.into_iter().filter(move |p| self.has(*p)).map(Pin::name)
    }
}

/// Session variables beside those that always follow a session, and that can be set again on another connection.
const REPLAYABLE: &[&str] = &[
    "big_tables",
    "bulk_insert_buffer_size",
    "character_set_database",
    "collation_database",
    "collation_server",
    "character_set_server",
    "completion_type",
    "concurrent_insert",
    "default_storage_engine",
    "eq_range_index_dive_limit",
    "expensive_subquery_limit",
    "innodb_lock_wait_timeout",
    "innodb_strict_mode",
    "innodb_table_locks",
    "join_buffer_size",
    "join_cache_level",
    "lc_messages",
    "lock_wait_timeout",
    "long_query_time",
    "low_priority_updates",
    "max_error_count",
    "max_execution_time",
    "max_heap_table_size",
    "max_join_size",
    "max_length_for_sort_data",
    "max_seeks_for_key",
    "max_sort_length",
    "max_statement_time",
    "net_read_timeout",
    "net_retry_count",
    "net_write_timeout",
    "old_mode",
    "optimizer_prune_level",
    "optimizer_search_depth",
    "optimizer_switch",
    "optimizer_use_condition_selectivity",
    "query_cache_type",
    "range_alloc_block_size",
    "read_buffer_size",
    "read_rnd_buffer_size",
    "session_track_schema",
    "session_track_state_change",
    "session_track_system_variables",
    "session_track_transaction_info",
    "slow_query_log",
    "sort_buffer_size",
    "sql_big_selects",
    "sql_buffer_result",
    "sql_notes",
    "sql_quote_show_create",
    "sql_warnings",
    "storage_engine",
    "system_versioning_alter_history",
    "system_versioning_asof",
    "tmp_table_size",
    "updatable_views_with_limit",
    "use_stat_tables",
];

/// Whether a SET of it can be repeated by value.
fn replayable(name: &str, value: Option<&str>) -> bool {
    if name == "character_set_results" {
        // the proxy reads its own answers in this character set
        return value.is_none_or(|v| !["ucs2", "utf16", "utf16le", "utf32"].contains(&v.to_ascii_lowercase().as_str()));
    }
    super::sync::FOLLOW.contains(&name) || REPLAYABLE.contains(&name)
}

/// What a lease knows of the state that pins it, or that must be saved before another session gets the connection.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Reasons that stay until the session is reset.
    pub(crate) sticky: Pins,
    /// The last statement left something that the next may ask for.
    pub(crate) warnings: bool,
    /// `SET TRANSACTION …`, `insert_id` and the like wait for their statement.
    pub(crate) next_statement: bool,
    /// Prepared statements with an open cursor.
    pub(crate) cursors: Vec<u32>,
    /// Grows when variables or the database may have changed.
    pub(crate) version: u64,
    /// Grows when an insert id, or a user variable set by a trigger, may have changed.
    pub(crate) soft: u64,
    /// ROW_COUNT() after the last statement.
    pub(crate) row_count: i64,
    /// FOUND_ROWS() after the last statement.
    pub(crate) found_rows: u64,
}

impl Known {
    /// As after COM_RESET_CONNECTION; a secret does not become known by that.
    pub(crate) fn reset(&mut self) {
        let secret = self.sticky.has(Pin::Secret);
        *self = Known { version: 0, row_count: 0, ..Known::default() };
        self.sticky.set(Pin::Secret, secret);
    }

    /// Takes a statement's end into account; `facts` is `None` for one that the proxy cannot read.
    pub(crate) fn see(&mut self, facts: Option<&Facts>, outcome: &Outcome) {
        let Some(facts) = facts else {
            self.sticky.set(Pin::Unknown, true);
            self.version += 1;
            return;
        };
        if !matches!(facts.kind, Kind::Diagnostics) {
            self.warnings = outcome.error.is_some() || outcome.warnings > 0;
            self.row_count = match outcome.ok {
                _ if outcome.error.is_some() || outcome.result_set => -1,
                Some(ok) => i64::try_from(ok.affected_rows).unwrap_or(i64::MAX),
                None => 0,
            };
            if outcome.result_set {
                self.found_rows = outcome.rows;
            }
        }
        if !matches!(facts.kind, Kind::Set(_)) {
            self.next_statement = false;
        }
        if facts.flags.contains(Flags::CALC_FOUND_ROWS) || outcome.insert_id != 0 {
            self.soft += 1;
        }
        // an error may stand behind the half of the work
        self.kind(facts);
        if facts.flags.contains(Flags::USER_LOCK) {
            self.sticky.set(Pin::UserLock, true);
        }
        if facts.flags.intersects(Flags::SETS_SESSION | Flags::WRITES_USER_VARIABLES) {
            self.version += 1;
        }
        let called = facts.tables.iter().any(|t| t.access == Access::Call);
        if called || facts.flags.contains(Flags::CALLS_ROUTINE) {
            self.sticky.set(Pin::Routine, true);
        }
        if facts.flags.contains(Flags::DYNAMIC_SQL) {
            self.version += 1;
        }
    }

    fn kind(&mut self, facts: &Facts) {
        match &facts.kind {
            Kind::Read | Kind::Show | Kind::Diagnostics | Kind::Empty => {}
            Kind::Write => self.soft += 1,
            Kind::Ddl | Kind::Use(_) => self.version += 1,
            Kind::Set(list) => {
                self.version += 1;
                for one in list {
                    self.assigned(one);
                }
            }
            Kind::Call | Kind::Compound | Kind::Execute { .. } | Kind::ExecuteImmediate(_) => {
                self.version += 1;
                if matches!(facts.kind, Kind::Call | Kind::Compound) {
                    self.sticky.set(Pin::Routine, true);
                }
            }
            Kind::Xa => self.sticky.set(Pin::Xa, true),
            Kind::Admin => self.sticky.set(Pin::Admin, true),
            Kind::UnlockTables => self.sticky.set(Pin::Admin, false),
            Kind::Unknown => {
                self.version += 1;
                self.sticky.set(Pin::Unknown, true);
            }
            Kind::Begin { .. }
            | Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::Savepoint(_)
            | Kind::RollbackTo(_)
            | Kind::ReleaseSavepoint(_)
            | Kind::LockTables(_)
            | Kind::Prepare { .. }
            | Kind::Deallocate { .. }
            | Kind::Kill { .. }
            | Kind::Handler { .. } => {}
        }
    }

    fn assigned(&mut self, one: &Assignment) {
        match one {
            Assignment::Session { name, value } => match name.as_ref() {
                "insert_id" | "rand_seed1" | "rand_seed2" => self.next_statement = true,
                "last_insert_id" | "identity" => self.soft += 1,
                name if replayable(name, value.as_deref()) => {}
                _ => self.sticky.set(Pin::SessionVariable, true),
            },
            Assignment::NextTransaction(_) => self.next_statement = true,
            Assignment::Other => self.sticky.set(Pin::SessionVariable, true),
            Assignment::Names { .. }
            | Assignment::User { .. }
            | Assignment::SessionTransaction
            | Assignment::Global { .. } => {}
        }
    }
}

impl Session {
    /// Everything that pins the session now.
    pub(crate) fn pins(&self) -> Pins {
        let Some(lease) = &self.lease else { return Pins::default() };
        let known = &lease.known;
        let mut pins = known.sticky;
        pins.set(Pin::Transaction, self.in_transaction() || self.transaction.is_begun());
        pins.set(Pin::TemporaryTable, !self.state.temporary.is_empty());
        pins.set(Pin::TableLock, self.state.tables_locked);
        pins.set(Pin::Handler, !self.state.handlers.is_empty());
        pins.set(
            Pin::TextStatement,
            !self.state.text_statements.is_empty() || !self.state.opaque_statements.is_empty(),
        );
        pins.set(Pin::Cursor, !known.cursors.is_empty());
        pins.set(Pin::Warnings, known.warnings);
        pins.set(
            Pin::NextStatement,
            known.next_statement || !self.state.one_shots.is_empty() || self.state.next_transaction.is_some(),
        );
        pins
    }

    /// Takes a statement's end into account for what pins (`pool: transaction`).
    pub(crate) fn note(&mut self, facts: Option<&Facts>, outcome: &Outcome) {
        if let Some(lease) = &mut self.lease {
            lease.known.see(facts, outcome);
        }
    }

    /// A prepared statement was executed: whether it has a cursor open now.
    pub(crate) fn note_cursor(&mut self, id: u32, status: Option<Status>) {
        let Some(lease) = &mut self.lease else { return };
        lease.known.cursors.retain(|open| *open != id);
        let open = status.is_some_and(|s| s.contains(Status::CURSOR_EXISTS) && !s.contains(Status::LAST_ROW_SENT));
        if open {
            lease.known.cursors.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify::analyze;

    fn after(texts: &[&str]) -> Known {
        let mut known = Known::default();
        for text in texts {
            let analysis = analyze(text.as_bytes(), &Default::default());
            known.see(analysis.statements.first().map(AsRef::as_ref), &Outcome::default());
        }
        known
    }

    #[test]
    fn what_can_be_carried_does_not_pin() {
        let free = after(&[
            "SELECT * FROM t",
            "SET NAMES utf8mb4",
            "SET sql_mode = 'ANSI', @x = 1",
            "INSERT INTO t VALUES (1)",
            "SET SESSION innodb_lock_wait_timeout = 3",
            "SET GLOBAL max_connections = 100",
        ]);
        assert!(free.sticky.is_empty() && !free.next_statement);
        assert!(free.version > 0 && free.soft > 0);
    }

    #[test]
    fn doubt_pins() {
        for (text, pin) in [
            ("SELECT GET_LOCK('a', 1)", Pin::UserLock),
            ("CALL p()", Pin::Routine),
            ("SELECT my_function(1)", Pin::Routine),
            ("XA START 'a'", Pin::Xa),
            ("FLUSH TABLES WITH READ LOCK", Pin::Admin),
            ("SET wait_timeout = 1", Pin::SessionVariable),
            ("SET timestamp = 1", Pin::SessionVariable),
            ("SET ROLE x", Pin::SessionVariable),
        ] {
            assert!(after(&[text]).sticky.has(pin), "{text}");
        }
        assert!(after(&["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"]).next_statement);
        assert!(after(&["SET insert_id = 5"]).next_statement);
        assert!(!after(&["SET insert_id = 5", "INSERT INTO t VALUES (NULL)"]).next_statement);
    }

    #[test]
    fn every_pin_has_a_name_of_its_own() {
        let mut all = Pins::default();
        Pin::ALL.into_iter().for_each(|p| all.set(p, true));
        let names: std::collections::BTreeSet<_> = all.names().collect();
        assert_eq!(names.len(), Pin::ALL.len());
        all.set(Pin::Cursor, false);
        assert!(!all.has(Pin::Cursor) && all.names().all(|n| n != "cursor"));
    }
}
