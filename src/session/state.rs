//! What a session has set: the state that follows it to every store.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::answered::Settings;
use super::query::Plan;
use crate::routing::TempTables;
use crate::sql::Facts;
use crate::sql::dialect::{CharsetClass, Dialect, Engine};
use crate::sql::facts::{Assignment, Characteristics};
use crate::wire::handshake::Greeting;
use crate::wire::{Capabilities, Status};

/// Variables of the connection, or of statements that home alone runs: they stay each store's own.
pub(crate) const STAY: &[&str] = &[
    "wait_timeout",
    "interactive_timeout",
    "net_read_timeout",
    "net_write_timeout",
    "net_buffer_length",
    "max_allowed_packet",
    "completion_type",
    "timestamp",
    "last_gtid",
    "gtid_seq_no",
    "gtid_domain_id",
    "server_id",
    "pseudo_thread_id",
    "last_insert_id",
    "identity",
    "insert_id",
    "rand_seed1",
    "rand_seed2",
];

/// Variables that change what a text means.
const READING: [&str; 4] = ["sql_mode", "character_set_client", "character_set_connection", "collation_connection"];

/// A statement that was prepared by text (`PREPARE name FROM …`).
pub(crate) struct TextStatement {
    pub(crate) sql: Rc<[u8]>,
    pub(crate) plan: Rc<Plan>,
    /// Generations of the legs that know it.
    pub(crate) legs: Vec<u64>,
    /// What its text was read under.
    pub(crate) under: Under,
}

/// What a text is read under, beside its dialect: a statement that is prepared keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Under {
    database: Option<String>,
    reading: u64,
}

impl Under {
    /// Whether the default database is another one now.
    pub(crate) fn is_elsewhere(&self, state: &State) -> bool {
        self.database != state.database
    }

    /// The facts of a statement that was prepared under this: its tables are where they were then.
    pub(crate) fn placed(&self, mut facts: Facts) -> Facts {
        if let Some(database) = &self.database {
            for table in facts.tables.iter_mut().filter(|t| t.database.is_none()) {
                table.database = Some(database.as_str().into());
            }
        }
        facts
    }
}

/// The state of a session.
#[derive(Default)]
pub(crate) struct State {
    /// The current database.
    pub(crate) database: Option<String>,
    /// How its statements are to be read.
    pub(crate) dialect: Dialect,
    /// sql_mode was set to something that is no literal.
    pub(crate) dialect_unknown: bool,
    /// Grows with every change that other legs must follow.
    pub(crate) version: u64,
    /// Grows with every change of sql_mode, or of the character set or collation of texts.
    pub(crate) reading: u64,
    /// What its reads are answered by, by value.
    pub(crate) settings: Settings,
    /// Session variables that the client has set, in lower case.
    pub(crate) set: BTreeSet<Box<str>>,
    /// Generations of the legs that hold the newest value of a user variable.
    pub(crate) user_variables: HashMap<Box<str>, Vec<u64>>,
    /// Generations of the legs on which user variables may have been assigned by what the text does not say, the newest last.
    pub(crate) assigned_unseen: Vec<u64>,
    /// Temporary tables, and where they are.
    pub(crate) temporary: TempTables,
    /// Statements prepared by text.
    pub(crate) text_statements: HashMap<Box<str>, TextStatement>,
    /// Statements prepared by text that the proxy did not see: while every group was on the default store.
    pub(crate) opaque_statements: BTreeSet<Box<str>>,
    /// Open handlers: generation of their leg.
    pub(crate) handlers: HashMap<String, u64>,
    /// Generation of the leg of the newest statement (ROW_COUNT, FOUND_ROWS).
    pub(crate) last: u64,
    /// Generation of the leg of the newest statement that used a table or raised something: only such a statement begins the
    /// list of SHOW WARNINGS anew.
    pub(crate) diagnosed: u64,
    /// Grows with every SET NAMES: the collation that results come with is no variable.
    pub(crate) names: u64,
    /// Generation of the leg of the newest statement that made an insert id.
    pub(crate) last_insert: u64,
    /// (leg, id) of OK packets whose id may be one that was given, not generated, the newest last.
    pub(crate) insert_doubts: Vec<(u64, u64)>,
    /// Assignments that count for the next statement only, wherever it runs.
    pub(crate) one_shots: Vec<String>,
    /// What SET TRANSACTION has said of the next transaction; home knows it.
    pub(crate) next_transaction: Option<Characteristics>,
    /// LOCK TABLES is in force.
    pub(crate) tables_locked: bool,
    /// Grows with every leg.
    generations: u64,
}

impl State {
    /// A number that no leg of this session has had.
    pub(crate) fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }

    /// What a text is read under now.
    pub(crate) fn under(&self) -> Under {
        Under { database: self.database.clone(), reading: self.reading }
    }

    /// As after COM_RESET_CONNECTION or COM_CHANGE_USER.
    pub(crate) fn reset(&mut self, dialect: Dialect, collation: u8, home: u64) {
        let generations = self.generations;
        let version = self.version + 1;
        let settings = Settings::at_login(collation);
        *self = State {
            dialect,
            settings,
            generations,
            version,
            last: home,
            diagnosed: home,
            last_insert: home,
            ..State::default()
        };
    }

    /// Takes the status flags into account: they tell of NO_BACKSLASH_ESCAPES, however it was set.
    pub(crate) fn see_status(&mut self, status: Status) {
        self.dialect.no_backslash_escapes = status.contains(Status::NO_BACKSLASH_ESCAPES);
    }

    /// Takes one assignment of a SET into account; `home` is the leg on which it ran.
    pub(crate) fn assigned(&mut self, assignment: &Assignment, home: u64) {
        match assignment {
            Assignment::Session { name, value } => {
                self.version += 1;
                self.settings.assigned(name, value.as_deref());
                self.reading += u64::from(READING.contains(&name.as_ref()));
                match name.as_ref() {
                    "sql_mode" => self.sql_mode(value.as_deref()),
                    "character_set_client" => self.client_charset(value.as_deref()),
                    // these count for the next statement only, and read as 0 afterwards
                    "insert_id" | "rand_seed1" | "rand_seed2" => {
                        if let Some(number) = value.as_deref().filter(|v| v.bytes().all(|b| b.is_ascii_digit())) {
                            self.one_shots.push(format!("{name} = {number}"));
                        }
                        return;
                    }
                    "last_insert_id" | "identity" => {
                        self.last_insert = home;
                        self.insert_doubts.clear();
                        return;
                    }
                    _ => {}
                }
                self.follows(name);
            }
            Assignment::Names { charset, collation, .. } => {
                self.settings.names(charset.as_deref(), collation.as_deref());
                self.version += 1;
                self.reading += 1;
                self.names += 1;
                self.client_charset(charset.as_deref());
            }
            Assignment::User { name } => {
                self.user_variables.insert(name.clone(), vec![home]);
            }
            Assignment::NextTransaction(said) => {
                let before = self.next_transaction.unwrap_or_default();
                self.next_transaction = Some(before.then(*said));
            }
            Assignment::SessionTransaction => self.version += 1,
            Assignment::Other => {
                self.version += 1;
                self.reading += 1;
            }
            Assignment::Global { .. } => {}
        }
    }

    /// A variable that other stores get from now on.
    pub(crate) fn follows(&mut self, name: &str) {
        if self.set.len() < 256 && !self.set.contains(name) {
            self.set.insert(name.into());
        }
    }

    /// Takes a value into account that home has, as it was reported or read.
    pub(crate) fn reported(&mut self, name: &str, value: &[u8]) {
        self.version += 1;
        self.settings.assigned(name, std::str::from_utf8(value).ok());
        self.reading += u64::from(READING.contains(&name));
        match (name, std::str::from_utf8(value)) {
            ("sql_mode", Ok(modes)) => self.sql_mode(Some(modes)),
            ("character_set_client", Ok(charset)) => self.client_charset(Some(charset)),
            _ => {}
        }
        if !STAY.contains(&name) {
            self.follows(name);
        }
    }

    fn sql_mode(&mut self, value: Option<&str>) {
        match value {
            Some(modes) => {
                let ansi = modes.split(',').any(|m| {
                    let m = m.trim();
                    ["ANSI_QUOTES", "ANSI", "ORACLE", "DB2", "MAXDB", "MSSQL", "POSTGRESQL"]
                        .iter()
                        .any(|a| a.eq_ignore_ascii_case(m))
                });
                self.dialect.ansi_quotes = ansi;
                self.dialect_unknown = modes.bytes().all(|b| b.is_ascii_digit()) && !modes.is_empty();
            }
            None => self.dialect_unknown = true,
        }
    }

    fn client_charset(&mut self, name: Option<&str>) {
        self.dialect.charset = name.map_or(CharsetClass::Safe, CharsetClass::from_charset_name);
    }
}

/// How a session's statements are read before it sets anything.
pub(super) fn dialect_of(shown: &Greeting, collation: u8, agreed: Capabilities, status: Status) -> Dialect {
    Dialect {
        charset: CharsetClass::from_collation_id(u16::from(collation)),
        ignore_space: agreed.contains(Capabilities::IGNORE_SPACE),
        no_backslash_escapes: status.contains(Status::NO_BACKSLASH_ESCAPES),
        engine: Engine::from_server_version(&String::from_utf8_lossy(&shown.version)),
        ..Dialect::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: Option<&str>) -> Assignment {
        Assignment::Session { name: name.into(), value: value.map(Into::into) }
    }

    #[test]
    fn sql_mode_changes_how_statements_are_read() {
        let mut s = State::default();
        s.assigned(&set("sql_mode", Some("STRICT_TRANS_TABLES,ANSI_QUOTES")), 1);
        assert!(s.dialect.ansi_quotes && !s.dialect_unknown);
        s.assigned(&set("sql_mode", Some("")), 1);
        assert!(!s.dialect.ansi_quotes && !s.dialect_unknown);
        s.assigned(&set("sql_mode", None), 1);
        assert!(s.dialect_unknown);
        assert_eq!(s.version, 3);
    }

    #[test]
    fn what_counts_once_does_not_follow_for_ever() {
        let mut s = State::default();
        s.assigned(&set("insert_id", Some("7")), 1);
        s.assigned(&set("timestamp", Some("1700000000")), 1);
        assert_eq!(s.one_shots, ["insert_id = 7"]);
        assert!(s.set.contains("timestamp") && !s.set.contains("insert_id"));
    }
}
