//! The settings under which both stores answer a read: those that a session has before it sets anything, which are its home's global
//! ones, and what it has set.
//!
//! A store that does not know a setting of the first kind goes without, as a session there would; one that refuses what the session
//! itself has set cannot be compared with.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::connection::QueryError;
use crate::backend::{Backend, StoreHandle, control};

/// Of a session's settings those that its reads are answered by (and that follow it to every store: `session::sync`). Time is in UTC,
/// whatever the zones of the stores' hosts.
const GLOBAL: [&str; 7] = [
    "sql_mode",
    "group_concat_max_len",
    "div_precision_increment",
    "default_week_format",
    "lc_time_names",
    "sql_select_limit",
    "sql_auto_is_null",
];
/// What every session begins with.
const FIRST: [&str; 2] = ["NAMES utf8mb4 COLLATE utf8mb4_general_ci", "SESSION time_zone = '+00:00'"];
/// A store's global settings hold for so long before they are read again.
const STALE: Duration = Duration::from_secs(30);
/// For a connection.
const LIMIT: Duration = Duration::from_secs(5);

/// What one session sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    /// All of it as one statement.
    pub(super) text: String,
    base: Arc<[String]>,
    own: Vec<String>,
}

impl Set {
    pub(super) fn new(base: Arc<[String]>, own: Vec<String>) -> Set {
        let all: Vec<&str> = base.iter().chain(&own).map(String::as_str).collect();
        Set { text: format!("SET {}", all.join(", ")), base, own }
    }

    /// Makes a session have it; false where that store refuses what the session itself has set. An error where the connection is lost.
    pub(super) async fn apply(&self, backend: &mut Backend) -> Result<bool, String> {
        if told(backend, &self.text).await?.is_none() {
            return Ok(true);
        }
        for assignment in self.base.iter() {
            let mut assignment = assignment.clone();
            while let Some(error) = told(backend, &format!("SET {assignment}")).await? {
                // modes that only the other store has
                match without_unknown_mode(&assignment, &error) {
                    Some(shorter) => assignment = shorter,
                    None => break,
                }
            }
        }
        for assignment in &self.own {
            if told(backend, &format!("SET {assignment}")).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What a store says against a statement.
async fn told(backend: &mut Backend, sql: &str) -> Result<Option<String>, String> {
    match backend.execute(sql.as_bytes()).await {
        Ok(_) => Ok(None),
        Err(QueryError::Refused(error)) => Ok(Some(String::from_utf8_lossy(&error.message).into_owned())),
        Err(error) => Err(error.to_string()),
    }
}

/// `Variable 'sql_mode' can't be set to the value of 'X'`: the same without X.
fn without_unknown_mode(assignment: &str, error: &str) -> Option<String> {
    let (name, modes) = assignment.split_once(" = '").filter(|(name, _)| name.ends_with("sql_mode"))?;
    let unknown = error.rsplit('\'').nth(1)?;
    let modes = modes.trim_end_matches('\'');
    let kept: Vec<&str> = modes.split(',').filter(|m| !m.eq_ignore_ascii_case(unknown)).collect();
    let shorter = format!("{name} = '{}'", kept.join(","));
    (shorter != assignment).then_some(shorter)
}

struct Known {
    home: Arc<StoreHandle>,
    since: Instant,
    assignments: Arc<[String]>,
}

/// What sessions have before they set anything, by their home.
#[derive(Default)]
pub(super) struct Base(RefCell<Vec<Known>>);

impl Base {
    /// As assignments of a SET.
    pub(super) async fn of(&self, home: &Arc<StoreHandle>) -> Result<Arc<[String]>, String> {
        self.0.borrow_mut().retain(|known| known.since.elapsed() < STALE);
        let known = self.0.borrow().iter().find(|k| Arc::ptr_eq(&k.home, home)).map(|k| Arc::clone(&k.assignments));
        if let Some(known) = known {
            return Ok(known);
        }
        let assignments: Arc<[String]> = read(home).await?.into();
        let known = Known { home: Arc::clone(home), since: Instant::now(), assignments: Arc::clone(&assignments) };
        self.0.borrow_mut().push(known);
        Ok(assignments)
    }
}

async fn read(home: &Arc<StoreHandle>) -> Result<Vec<String>, String> {
    let mut backend = control::connect(home, LIMIT).await.map_err(|e| e.to_string())?;
    let mut assignments: Vec<String> = FIRST.iter().map(|a| (*a).to_owned()).collect();
    for name in GLOBAL {
        match backend.query(format!("SELECT @@GLOBAL.{name}").as_bytes()).await {
            Ok(rows) => {
                let value = rows.first(0).map(|v| String::from_utf8_lossy(v).into_owned());
                assignments.extend(value.map(|v| format!("SESSION {name} = {}", literal(&v))));
            }
            Err(QueryError::Refused(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(assignments)
}

fn literal(value: &str) -> String {
    let number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    // doubled quotes are understood in every mode, and none of these values has a backslash
    if number { value.to_owned() } else { format!("'{}'", value.replace('\'', "''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_of_the_other_store_are_left_out() {
        let error = "Variable 'sql_mode' can't be set to the value of 'NO_AUTO_CREATE_USER'";
        let set = "SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_AUTO_CREATE_USER'";
        assert_eq!(without_unknown_mode(set, error).as_deref(), Some("SESSION sql_mode = 'STRICT_TRANS_TABLES'"));
        assert_eq!(without_unknown_mode("SESSION sql_mode = 'ANSI'", error), None);
        assert_eq!(without_unknown_mode("SESSION lc_time_names = 'x'", error), None);
    }

    #[test]
    fn what_the_session_has_set_comes_last() {
        let base: Arc<[String]> = vec!["NAMES utf8mb4".to_owned(), "SESSION sql_mode = 'ANSI'".to_owned()].into();
        let set = Set::new(base, vec!["SESSION sql_mode = ''".to_owned()]);
        assert_eq!(set.text, "SET NAMES utf8mb4, SESSION sql_mode = 'ANSI', SESSION sql_mode = ''");
        assert_eq!((literal("1024"), literal("a'b")), ("1024".to_owned(), "'a''b'".to_owned()));
    }
}
