//! What a session has set of what its reads are answered by, by value: who runs a read once more on two stores sets the same there
//! ([`super::shadowed`]). What is not known by value, or may change an answer in a way that nobody carries, makes its reads none to
//! compare.

use std::collections::{BTreeMap, BTreeSet};

use super::state::STAY;

/// Carried. (What the character set of texts and answers does is the same on both stores, whatever it is.)
const CARRIED: [&str; 8] = [
    "sql_mode",
    "time_zone",
    "group_concat_max_len",
    "div_precision_increment",
    "default_week_format",
    "lc_time_names",
    "sql_select_limit",
    "sql_auto_is_null",
];

/// No answer to a read that stands by itself depends on these.
const HARMLESS: [&str; 42] = [
    "autocommit",
    "tx_isolation",
    "transaction_isolation",
    "tx_read_only",
    "transaction_read_only",
    "foreign_key_checks",
    "unique_checks",
    "check_constraint_checks",
    "sql_safe_updates",
    "sql_notes",
    "sql_warnings",
    "sql_quote_show_create",
    "sql_big_selects",
    "sql_log_bin",
    "binlog_format",
    "binlog_row_image",
    "auto_increment_increment",
    "auto_increment_offset",
    "character_set_connection",
    "character_set_results",
    "character_set_database",
    "innodb_lock_wait_timeout",
    "lock_wait_timeout",
    "max_statement_time",
    "max_execution_time",
    "long_query_time",
    "slow_query_log",
    "optimizer_switch",
    "optimizer_search_depth",
    "optimizer_prune_level",
    "optimizer_use_condition_selectivity",
    "join_buffer_size",
    "sort_buffer_size",
    "read_buffer_size",
    "read_rnd_buffer_size",
    "tmp_table_size",
    "max_heap_table_size",
    "query_cache_type",
    "profiling",
    "session_track_system_variables",
    "session_track_state_change",
    "lc_messages",
];

/// Variables of unknown value that are told apart; beyond, it counts only that there are some.
const UNKNOWN: usize = 64;

/// What a session has set.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, Box<str>>,
    /// `charset COLLATE collation`, of SET NAMES; a collation alone, of SET collation_connection.
    collation: Option<(Option<Box<str>>, Box<str>)>,
    /// What it has set to something that the text does not say, or that is not carried.
    unknown: BTreeSet<Box<str>>,
    /// Its texts are not in UTF-8.
    foreign: bool,
}

/// Whether a character set is UTF-8, or part of it.
fn is_utf8(charset: &str) -> bool {
    ["utf8mb4", "utf8mb3", "utf8", "ascii"].iter().any(|c| c.eq_ignore_ascii_case(charset))
}

/// Whether a collation id that fits a login is one of such a character set (MySQL 8.0 and MariaDB 10.11, information_schema.COLLATIONS).
fn is_of_utf8(id: u8) -> bool {
    matches!(id, 11 | 33 | 45 | 46 | 65 | 76 | 83 | 192..=215 | 223..=247 | 255)
}

/// Whether a value can stand in a SET as it is, whatever mode that is read under.
fn is_plain(value: &str) -> bool {
    value.len() <= 1_000 && value.chars().all(|c| c.is_ascii_alphanumeric() || "_,+:/.- ".contains(c))
}

fn literal(value: &str) -> String {
    let number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    if number { value.to_owned() } else { format!("'{value}'") }
}

impl Settings {
    /// Of a session that has just logged in.
    pub(crate) fn at_login(collation: u8) -> Settings {
        Settings { foreign: !is_of_utf8(collation), ..Settings::default() }
    }

    /// A variable was set: to this, where that is known.
    pub(crate) fn assigned(&mut self, name: &str, value: Option<&str>) {
        let value = value.filter(|v| is_plain(v));
        if let Some(carried) = CARRIED.iter().find(|c| **c == name) {
            match value {
                Some(value) => {
                    self.values.insert(carried, value.into());
                    self.unknown.remove(name);
                }
                None => self.not_known(name),
            }
            return;
        }
        match name {
            "character_set_client" => {
                self.foreign = !value.is_some_and(is_utf8);
            }
            "collation_connection" => match value.filter(|v| v.starts_with("utf8mb4_")) {
                Some(value) => {
                    self.collation = Some((None, value.into()));
                    self.unknown.remove(name);
                }
                None => self.not_known(name),
            },
            name if HARMLESS.contains(&name) || STAY.contains(&name) => {}
            name => self.not_known(name),
        }
    }

    /// SET NAMES, SET CHARACTER SET.
    pub(crate) fn names(&mut self, charset: Option<&str>, collation: Option<&str>) {
        self.foreign = !charset.is_some_and(is_utf8);
        self.collation = None;
        self.unknown.remove("collation_connection");
        match (charset.filter(|c| is_utf8(c)), collation.filter(|c| is_plain(c))) {
            (charset @ Some(_), Some(collation)) => self.collation = Some((charset.map(Into::into), collation.into())),
            (None, Some(_)) => self.not_known("collation_connection"),
            (_, None) => {}
        }
    }

    /// Something has set it that its text does not say.
    pub(crate) fn not_known(&mut self, name: &str) {
        if CARRIED.contains(&name) || !HARMLESS.contains(&name) && !STAY.contains(&name) {
            let name = if self.unknown.len() < UNKNOWN { name } else { "…" };
            self.unknown.insert(name.into());
        }
    }

    /// The assignments of a SET that makes another session answer this text in the same way; `None` where none does.
    pub(crate) fn carried(&self, text: &[u8]) -> Option<Vec<String>> {
        if !self.unknown.is_empty() || self.foreign && !text.is_ascii() {
            return None;
        }
        let collation = self.collation.as_ref().map(|(charset, collation)| match charset {
            Some(charset) => format!("NAMES '{charset}' COLLATE '{collation}'"),
            None => format!("SESSION collation_connection = '{collation}'"),
        });
        let values = self.values.iter().map(|(name, value)| format!("SESSION {name} = {}", literal(value)));
        Some(collation.into_iter().chain(values).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(settings: &Settings) -> Option<String> {
        settings.carried(b"SELECT 1").map(|list| list.join(", "))
    }

    #[test]
    fn what_is_known_by_value_is_carried() {
        let mut s = Settings::at_login(45);
        assert_eq!(carried(&s).as_deref(), Some(""));
        s.assigned("time_zone", Some("Europe/Berlin"));
        s.assigned("group_concat_max_len", Some("10"));
        s.assigned("autocommit", Some("0"));
        s.names(Some("utf8"), Some("utf8_bin"));
        let expected =
            "NAMES 'utf8' COLLATE 'utf8_bin', SESSION group_concat_max_len = 10, SESSION time_zone = 'Europe/Berlin'";
        assert_eq!(carried(&s).as_deref(), Some(expected));
        s.names(Some("utf8mb4"), None);
        s.assigned("collation_connection", Some("utf8mb4_bin"));
        assert!(carried(&s).unwrap().starts_with("SESSION collation_connection = 'utf8mb4_bin', "));
    }

    #[test]
    fn what_is_not_makes_a_read_none_to_compare() {
        let mut s = Settings::at_login(45);
        s.assigned("sql_mode", None);
        assert_eq!(carried(&s), None);
        s.assigned("sql_mode", Some("ANSI"));
        assert_eq!(carried(&s).as_deref(), Some("SESSION sql_mode = 'ANSI'"));
        for (name, value) in
            [("old_mode", Some("")), ("time_zone", Some("x'; --")), ("collation_connection", Some("latin1_bin"))]
        {
            let mut s = Settings::at_login(45);
            s.assigned(name, value);
            assert_eq!(carried(&s), None, "{name}");
        }
        let mut s = Settings::at_login(45);
        s.names(Some("latin1"), Some("latin1_german1_ci"));
        assert_eq!(carried(&s), None);
        s.names(Some("utf8mb4"), None);
        assert_eq!(carried(&s).as_deref(), Some(""));
    }

    #[test]
    fn texts_in_other_character_sets_are_compared_where_they_are_ascii() {
        for mut s in [Settings::at_login(8), Settings::default()] {
            s.names(Some("latin1"), None);
            assert_eq!(s.carried("SELECT 'é'".as_bytes()), None);
            assert_eq!(s.carried(b"SELECT 'e'"), Some(Vec::new()));
            s.assigned("character_set_client", Some("utf8mb4"));
            assert_eq!(s.carried("SELECT 'é'".as_bytes()), Some(Vec::new()));
        }
    }
}
