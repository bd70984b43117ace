//! Brings the legs other than home in step with the session: database and effective values of its variables.
//!
//! Values travel, never texts (RULES.md 15): `SET sql_mode = CONCAT(@@sql_mode, …)` would give two modes on two stores. What a
//! store does not know is left out there.

use std::collections::HashMap;
use std::sync::Arc;

use super::Session;
use super::control_flow::Failure;
use super::state::STAY;
use crate::backend::connection::QueryError;
use crate::sql::Facts;
use crate::wire::ErrPacket;

/// Variables that decide what a statement means or returns; read on home, set on the others where they differ.
pub(crate) const FOLLOW: &[&str] = &[
    "sql_mode",
    "time_zone",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "collation_connection",
    "autocommit",
    "tx_isolation",
    "transaction_isolation",
    "tx_read_only",
    "transaction_read_only",
    "foreign_key_checks",
    "unique_checks",
    "sql_auto_is_null",
    "sql_safe_updates",
    "sql_select_limit",
    "auto_increment_increment",
    "auto_increment_offset",
    "group_concat_max_len",
    "div_precision_increment",
    "default_week_format",
    "lc_time_names",
];

/// Variables of the same meaning under MySQL's and MariaDB's names.
const ALIASES: &[(&str, &str)] =
    &[("tx_isolation", "transaction_isolation"), ("tx_read_only", "transaction_read_only")];

/// The offset from UTC of a connection's NOW().
pub(crate) const OFFSET: &str = "TIME_FORMAT(TIMEDIFF(NOW(), UTC_TIMESTAMP()), '%H:%i')";

/// How the time zones of the session and of a leg compare.
pub(crate) enum Zone {
    /// One of them has a name, and the leg has that of the session.
    Named,
    /// Both are called SYSTEM; the leg's offset from UTC, where it was read.
    System(Option<String>),
}

impl Session {
    /// Brings a leg other than home in step, for a statement of these facts.
    pub(crate) async fn bring_in_step(&mut self, at: usize, facts: Option<&Facts>) -> Result<(), Failure> {
        if at == 0 {
            return Ok(());
        }
        let version = self.state.version;
        if self.legs.get(at).is_some_and(|l| l.synced != version) {
            Box::pin(self.follow_variables(at)).await?;
            if let Some(leg) = self.legs.get_mut(at) {
                leg.synced = version;
            }
        }
        if !self.state.one_shots.is_empty() {
            let sql = format!("SET {}", self.state.one_shots.join(", "));
            self.tell(at, &sql).await??;
        }
        let database = self.state.database.clone();
        if let (Some(wanted), Some(leg)) = (database, self.legs.get_mut(at))
            && leg.database.as_deref() != Some(wanted.as_str())
        {
            match leg.backend.init_db(wanted.as_bytes()).await {
                Ok(()) => leg.database = Some(wanted),
                // a statement that qualifies every table needs no current database
                Err(QueryError::Refused(e)) if e.code == 1049 && facts.is_some_and(names_databases) => {}
                Err(QueryError::Refused(mut e)) => {
                    let text = String::from_utf8_lossy(&e.message).into_owned();
                    e.message = format!("switchover: store {}, database '{wanted}': {text}", leg.name).into_bytes();
                    return Err(e.into());
                }
                Err(QueryError::Io(e)) => return Err(leg.lost(e).into()),
                Err(QueryError::Malformed(e)) => return Err(leg.nonsense(e).into()),
            }
        }
        Ok(())
    }

    async fn follow_variables(&mut self, at: usize) -> Result<(), Failure> {
        self.look_home_over().await?;
        let names = self.followed();
        let (wanted, offset) = self.read_with_offset(0, &names).await?;
        if let Zone::System(there) = self.give_values(at, &names, &wanted).await? {
            // the same word, perhaps on hosts in different zones
            self.give_offset(at, &offset, there).await?;
        }
        self.follow_clock(at).await
    }

    /// The names of the variables that follow the session.
    pub(crate) fn followed(&self) -> Vec<String> {
        super::saved::followed(self.state.set.iter().map(AsRef::as_ref).filter(|n| !STAY.contains(n)))
    }

    /// Gives a leg the wanted values where it has others.
    pub(crate) async fn give_values(
        &mut self,
        at: usize,
        names: &[String],
        wanted: &HashMap<String, Option<Vec<u8>>>,
    ) -> Result<Zone, Failure> {
        let mut offset = None;
        let first_time = self.legs.get(at).is_some_and(|l| l.variables.is_empty());
        if first_time {
            let mut both = names.to_vec();
            for (a, b) in ALIASES {
                both.extend([(*a).to_owned(), (*b).to_owned()]);
            }
            let (now, there) = self.read_with_offset(at, &both).await?;
            offset = Some(there);
            if let Some(leg) = self.legs.get_mut(at) {
                leg.variables = now;
            }
            // a statement may run there for long after the client's own store would have closed an idle connection
            let _ = self.tell(at, "SET SESSION wait_timeout = 2147483, SESSION interactive_timeout = 2147483").await?;
        } else {
            let unknown: Vec<String> = match self.legs.get(at) {
                Some(leg) => names.iter().filter(|n| !leg.variables.contains_key(*n)).cloned().collect(),
                None => Vec::new(),
            };
            if !unknown.is_empty() {
                let more = self.read_variables(at, &unknown).await?;
                if let Some(leg) = self.legs.get_mut(at) {
                    leg.variables.extend(more);
                }
            }
        }
        self.follow_names(at, wanted).await?;
        let Some(leg) = self.legs.get(at) else { return Ok(Zone::Named) };
        let both_system =
            [wanted, &leg.variables].iter().all(|v| v.get("time_zone") == Some(&Some(b"SYSTEM".to_vec())));
        let changes = differing(wanted, &leg.variables);
        for (name, value) in changes {
            self.set_variable(at, &name, &value).await?;
        }
        Ok(if both_system { Zone::System(offset) } else { Zone::Named })
    }

    /// SET NAMES sets what no variable shows, the collation that results come with: where the session's three character sets are
    /// one, a leg gets them as home did.
    async fn follow_names(&mut self, at: usize, wanted: &HashMap<String, Option<Vec<u8>>>) -> Result<(), Failure> {
        const FOUR: [&str; 4] =
            ["character_set_client", "character_set_connection", "character_set_results", "collation_connection"];
        let value = |name: &str| wanted.get(name).cloned().flatten();
        let (Some(charset), Some(collation)) = (value("character_set_client"), value("collation_connection")) else {
            return Ok(());
        };
        let Some(leg) = self.legs.get(at) else { return Ok(()) };
        let same = FOUR.iter().all(|n| leg.variables.get(*n).cloned().flatten() == value(n));
        let one = FOUR.iter().take(3).all(|n| value(n).as_ref() == Some(&charset));
        if leg.names == self.state.names && (same || !one) {
            return Ok(());
        }
        if !one {
            // SET CHARACTER SET: results come with the collation of its character set again
            let results = value("character_set_results");
            let sql = format!("SET character_set_results = {}", literal("character_set_results", results.as_deref()));
            if self.tell(at, &sql).await?.is_ok()
                && let Some(leg) = self.legs.get_mut(at)
            {
                leg.names = self.state.names;
                leg.variables.insert("character_set_results".to_owned(), results);
            }
            return Ok(());
        }
        let text = |v: &[u8]| String::from_utf8_lossy(v).replace('\'', "''");
        let sql = format!("SET NAMES '{}' COLLATE '{}'", text(&charset), text(&collation));
        // a store that does not know them gets what it knows, one by one
        let answer = self.tell(at, &sql).await?;
        if let Some(leg) = self.legs.get_mut(at) {
            leg.names = self.state.names;
            if answer.is_ok() {
                leg.variables.extend(FOUR.iter().map(|n| ((*n).to_owned(), value(n))));
                leg.substituted.retain(|n| !FOUR.contains(&n.as_str()));
            }
        }
        Ok(())
    }

    /// Gives a leg the offset from UTC that home has now: where zones have no common name. Daylight saving is not followed.
    async fn follow_offset(&mut self, at: usize) -> Result<(), Failure> {
        let wanted = self.offset(0).await?;
        self.give_offset(at, &wanted, None).await
    }

    async fn offset(&mut self, at: usize) -> Result<String, Failure> {
        let rows = self.ask(at, format!("SELECT {OFFSET}")).await?;
        Ok(String::from_utf8_lossy(rows.first(0).unwrap_or_default()).into_owned())
    }

    /// The same, for an offset that is known; perhaps the leg's own is known too.
    pub(crate) async fn give_offset(&mut self, at: usize, wanted: &str, own: Option<String>) -> Result<(), Failure> {
        let there = match own {
            Some(there) => there,
            None => self.offset(at).await?,
        };
        if wanted == there {
            return Ok(());
        }
        let signed = if wanted.starts_with('-') { wanted.to_owned() } else { format!("+{wanted}") };
        self.tell(at, &format!("SET time_zone = '{signed}'")).await??;
        if let Some(leg) = self.legs.get_mut(at) {
            leg.substituted.insert("time_zone".to_owned());
        }
        let store = self.legs.get(at).map(|l| l.name.as_str());
        tracing::warn!(
            store,
            offset = signed,
            "the time zone of the session has no name there: its offset is used, without daylight saving"
        );
        Ok(())
    }

    /// `SET timestamp`: a clock that stands still stands still everywhere, and runs again everywhere.
    async fn follow_clock(&mut self, at: usize) -> Result<(), Failure> {
        if !self.state.set.contains("timestamp") {
            return Ok(());
        }
        // SYSDATE() is the real clock
        let rows = self
            .ask(0, "SELECT @@session.timestamp, ABS(@@session.timestamp - UNIX_TIMESTAMP(SYSDATE(6))) > 1")
            .await?;
        let stands = rows.first(1) == Some(b"1");
        let value = String::from_utf8_lossy(rows.first(0).unwrap_or_default()).into_owned();
        self.tell(at, &format!("SET timestamp = {}", if stands { &value } else { "DEFAULT" })).await??;
        Ok(())
    }

    /// Session variables of a leg by name in lower case; those that its store does not know are absent.
    ///
    /// One row whatever `sql_select_limit` says, unlike SHOW VARIABLES; a name that is unknown is named by the error.
    pub(crate) async fn read_variables(
        &mut self,
        at: usize,
        names: &[String],
    ) -> Result<HashMap<String, Option<Vec<u8>>>, Failure> {
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        self.read_with_offset(at, names).await.map(|(variables, _)| variables)
    }

    /// The same, and the leg's offset from UTC, in one round trip.
    async fn read_with_offset(
        &mut self,
        at: usize,
        names: &[String],
    ) -> Result<(HashMap<String, Option<Vec<u8>>>, String), Failure> {
        let Some(handle) = self.legs.get(at).map(|l| Arc::clone(&l.backend.handle)) else {
            return Ok(Default::default());
        };
        let mut names: Vec<&String> = names.iter().filter(|n| !handle.lacks_variable(n)).collect();
        loop {
            let list: String = names.iter().map(|n| format!(", @@session.{}", super::transaction::quoted(n))).collect();
            match self.ask(at, &format!("SELECT {OFFSET}{list}")).await {
                Ok(rows) => {
                    let mut row = rows.rows.into_iter().next().unwrap_or_default().into_iter();
                    let offset = String::from_utf8_lossy(&row.next().flatten().unwrap_or_default()).into_owned();
                    return Ok((names.into_iter().cloned().zip(row).collect(), offset));
                }
                Err(Failure::Statement(error)) => {
                    let text = String::from_utf8_lossy(&error.message).to_ascii_lowercase();
                    let before = names.len();
                    names.retain(|n| {
                        let unknown = text.contains(&format!("'{n}'"));
                        if unknown && FOLLOW.contains(&n.as_str()) {
                            handle.note_lacking(n);
                        }
                        !unknown
                    });
                    if names.len() == before && before > 1 {
                        // with character_set_results = ucs2 errors have no text
                        let variables = self.read_one_by_one(at, &names).await?;
                        return Ok((variables, self.offset(at).await?));
                    }
                    if names.len() == before {
                        return Err(error.into());
                    }
                }
                Err(fatal) => return Err(fatal),
            }
        }
    }

    async fn read_one_by_one(
        &mut self,
        at: usize,
        names: &[&String],
    ) -> Result<HashMap<String, Option<Vec<u8>>>, Failure> {
        let mut all = HashMap::new();
        for name in names {
            match self.ask(at, &format!("SELECT @@session.{}", super::transaction::quoted(name))).await {
                Ok(rows) => all
                    .extend(rows.rows.into_iter().next().unwrap_or_default().into_iter().map(|v| ((*name).clone(), v))),
                Err(Failure::Statement(error)) if error.code == 1193 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    async fn set_variable(&mut self, at: usize, name: &str, value: &Option<Vec<u8>>) -> Result<(), Failure> {
        let mut text = literal(name, value.as_deref());
        let wanted = text.clone();
        let mut substituted = false;
        for _ in 0..32 {
            let answer = self.tell(at, &format!("SET SESSION {name} = {text}")).await?;
            let Err(error) = answer else { break };
            if name == "time_zone" && error.code == 1298 {
                self.follow_offset(at).await?;
                substituted = true;
                break;
            }
            match instead(name, &text, &error) {
                Some(other) => text = other,
                None if name.starts_with("character_set_") => return Err(self.no_charset(at, &text)),
                None => {
                    let store = self.legs.get(at).map(|l| l.name.as_str());
                    tracing::warn!(store, name, error = error.code, "a session variable cannot follow");
                    substituted = true;
                    break;
                }
            }
        }
        if let Some(leg) = self.legs.get_mut(at) {
            leg.variables.insert(name.to_owned(), value.clone());
            if substituted || text != wanted {
                leg.substituted.insert(name.to_owned());
            } else {
                leg.substituted.remove(name);
            }
        }
        Ok(())
    }
}

impl Session {
    /// Bytes in a character set that the store does not know would be read as something else there.
    fn no_charset(&self, at: usize, charset: &str) -> Failure {
        let store = self.legs.get(at).map_or("", |l| l.name.as_str());
        let text = format!(
            "switchover: store {store} does not know the character set {charset} that this session uses; use utf8mb4 (SET NAMES utf8mb4)"
        );
        ErrPacket::new(1115, b"42000", text).into()
    }
}

/// Whether every table is named with its database.
pub(crate) fn names_databases(facts: &Facts) -> bool {
    !facts.tables.is_empty() && facts.tables.iter().all(|t| t.database.is_some())
}

/// Another value that means the same, for one that a store refused.
fn instead(name: &str, text: &str, error: &ErrPacket) -> Option<String> {
    let message = String::from_utf8_lossy(&error.message).into_owned();
    let bare = text.trim_matches('\'');
    match name {
        // a mode that the store does not know is left out: the message ends with it
        "sql_mode" if error.code == 1231 => {
            let unknown = message.rsplit('\'').nth(1)?;
            Some(without(text, unknown)).filter(|shorter| shorter != text)
        }
        // utf8mb4 holds all of them; what goes to the store may be ASCII too
        "character_set_client" | "character_set_connection" if matches!(bare, "ascii" | "utf8" | "utf8mb3") => {
            Some("'utf8mb4'".to_owned())
        }
        "character_set_results" if matches!(bare, "utf8" | "utf8mb3") => Some("'utf8mb4'".to_owned()),
        _ => None,
    }
}

/// What must be set on a leg that has `have`, so that it is as `want`.
fn differing(
    want: &HashMap<String, Option<Vec<u8>>>,
    have: &HashMap<String, Option<Vec<u8>>>,
) -> Vec<(String, Option<Vec<u8>>)> {
    let mut out = Vec::new();
    let mut names: Vec<&String> = want.keys().collect();
    // the character set of a connection sets its collation, so the collation comes after it
    names.sort();
    names.sort_by_key(|n| n.as_str() == "collation_connection");
    for name in names {
        let value = want.get(name).cloned().flatten();
        let there =
            if have.contains_key(name) { Some(name.as_str()) } else { alias(name).filter(|a| have.contains_key(*a)) };
        let Some(there) = there else { continue };
        if have.get(there).cloned().flatten() != value && !out.iter().any(|(n, _): &(String, _)| n == there) {
            out.push((there.to_owned(), value));
        }
    }
    out
}

fn alias(name: &str) -> Option<&'static str> {
    ALIASES.iter().find_map(|(a, b)| {
        if *a == name {
            Some(*b)
        } else if *b == name {
            Some(*a)
        } else {
            None
        }
    })
}

/// A value of SHOW VARIABLES as a literal for SET.
pub(crate) fn literal(name: &str, value: Option<&[u8]>) -> String {
    let Some(value) = value else { return "NULL".to_owned() };
    let text = String::from_utf8_lossy(value);
    if text.is_empty() && name.starts_with("character_set_") {
        return "NULL".to_owned();
    }
    let numeric =
        !text.is_empty() && text.len() < 40 && text.parse::<f64>().is_ok() && text.bytes().any(|b| b.is_ascii_digit());
    if numeric || text == "ON" || text == "OFF" {
        return text.into_owned();
    }
    // sql_mode may hold NO_BACKSLASH_ESCAPES: quotes are doubled, which every mode understands
    format!("'{}'", text.replace('\'', "''"))
}

/// A comma-separated list in quotes, without one of its words.
fn without(list: &str, word: &str) -> String {
    let inner = list.trim_matches('\'');
    let kept: Vec<&str> = inner.split(',').filter(|m| !m.eq_ignore_ascii_case(word)).collect();
    format!("'{}'", kept.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_literals() {
        assert_eq!(literal("group_concat_max_len", Some(b"1024")), "1024");
        assert_eq!(literal("autocommit", Some(b"OFF")), "OFF");
        assert_eq!(literal("time_zone", Some(b"+00:00")), "'+00:00'");
        assert_eq!(literal("character_set_results", Some(b"")), "NULL");
        assert_eq!(literal("sql_mode", Some(b"")), "''");
        assert_eq!(without("'A,NO_AUTO_CREATE_USER,B'", "NO_AUTO_CREATE_USER"), "'A,B'");
    }

    #[test]
    fn only_what_differs_and_is_known_is_set() {
        let map = |v: &[(&str, &str)]| {
            v.iter().map(|(k, v)| ((*k).to_owned(), Some(v.as_bytes().to_vec()))).collect::<HashMap<_, _>>()
        };
        let want = map(&[
            ("sql_mode", "ANSI"),
            ("time_zone", "UTC"),
            ("tx_isolation", "SERIALIZABLE"),
            ("max_statement_time", "1"),
        ]);
        let have = map(&[("sql_mode", ""), ("time_zone", "UTC"), ("transaction_isolation", "REPEATABLE-READ")]);
        let set: Vec<String> = differing(&want, &have).into_iter().map(|(n, _)| n).collect();
        assert_eq!(set, ["sql_mode", "transaction_isolation"]);
    }
}
