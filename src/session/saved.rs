//! The state of a session as values: read off a connection before another session gets it, and set again on the next one.
//!
//! All of it goes in one round trip: COM_RESET_CONNECTION, the option of multi-statements, one SET, the database.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use tokio::sync::Notify;

use super::sync::{FOLLOW, OFFSET, literal};
use super::transaction::quoted;
use super::variables::variable_literal;
use crate::backend::Backend;
use crate::backend::connection::{QueryError, Rows};
use crate::sql::dialect::Engine;
use crate::wire::ErrPacket;
use crate::wire::command::{COM_INIT_DB, COM_QUERY, COM_RESET_CONNECTION, COM_SET_OPTION};
use crate::wire::packet;
use crate::wire::reply::Expect;

/// Values of session variables, as one store has them; sessions that set nothing of their own share them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Values {
    /// The store's name.
    pub(crate) store: String,
    /// The offset from UTC that NOW() had.
    pub(crate) offset: String,
    /// In an order in which they can be set.
    pub(crate) variables: Vec<(String, Option<Vec<u8>>)>,
}

impl Values {
    /// By name.
    pub(crate) fn map(&self) -> HashMap<String, Option<Vec<u8>>> {
        self.variables.iter().cloned().collect()
    }
}

/// The state of a session that is on no connection.
#[derive(Debug, Clone)]
pub(crate) struct Saved {
    /// Session variables.
    pub(crate) values: Rc<Values>,
    /// DATABASE().
    pub(crate) database: Option<String>,
    /// User variables: name and literal.
    pub(crate) user_variables: Vec<(Box<str>, Box<str>)>,
    /// LAST_INSERT_ID().
    pub(crate) last_insert_id: u64,
    /// FOUND_ROWS().
    pub(crate) found_rows: u64,
}

/// What became of the state that a session left on a connection.
#[derive(Debug)]
pub(crate) enum Left {
    /// It is there still.
    There,
    /// Somebody took the connection and saves the state.
    Leaving,
    /// Saved; `None` where the session knows it already.
    Saved(Option<Saved>),
    /// The connection was lost with it.
    Lost,
}

/// A session's hold on a connection that it has given back.
#[derive(Debug)]
pub(crate) struct Resident {
    /// Its variables.
    pub(crate) names: Vec<String>,
    /// User variables that the proxy knows of.
    pub(crate) user_variables: Vec<Box<str>>,
    /// Whether the connection holds state that the session does not know by value.
    pub(crate) unsaved: bool,
    /// Whether it is a session's still.
    pub(crate) gone: Cell<bool>,
    pub(crate) left: RefCell<Left>,
    pub(crate) settled: Notify,
}

/// What the sessions of one core share for saving.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// Variables that a store does not know: (store, name).
    unknown: RefCell<HashSet<(String, String)>>,
    values: RefCell<Vec<std::rc::Weak<Values>>>,
}

impl Shelf {
    /// One copy of equal values.
    fn share(&self, values: Values) -> Rc<Values> {
        let mut all = self.values.borrow_mut();
        all.retain(|v| v.strong_count() > 0);
        if let Some(same) = all.iter().rev().take(64).filter_map(std::rc::Weak::upgrade).find(|v| **v == values) {
            return same;
        }
        let new = Rc::new(values);
        all.push(Rc::downgrade(&new));
        new
    }
}

impl Resident {
    /// Takes the connection from its tenant, whose state is saved first. False: the connection is lost.
    pub(crate) async fn leave(&self, backend: &mut Backend, shelf: &Shelf) -> bool {
        if self.gone.get() {
            return true;
        }
        if !self.unsaved {
            self.settle(Left::Saved(None));
            return true;
        }
        self.left.replace(Left::Leaving);
        match save(backend, &self.names, &self.user_variables, shelf).await {
            Ok(saved) => {
                self.settle(Left::Saved(Some(saved)));
                true
            }
            Err(error) => {
                let (store, error) = (backend.handle.name(), crate::telemetry::without_values(&error));
                tracing::debug!(store, error, "a session's state is lost with its connection");
                self.settle(Left::Lost);
                false
            }
        }
    }

    fn settle(&self, left: Left) {
        self.left.replace(left);
        self.settled.notify_one();
    }
}

fn text(rows: &Rows, at: usize) -> Option<String> {
    rows.first(at).map(|v| String::from_utf8_lossy(v).into_owned())
}

/// Columns of the question that stand before the variables.
const FIXED: usize = 4;

/// Reads the state off a connection.
pub(crate) async fn save(
    backend: &mut Backend,
    names: &[String],
    user_variables: &[Box<str>],
    shelf: &Shelf,
) -> Result<Saved, QueryError> {
    let store = backend.handle.name().to_owned();
    let mut names: Vec<&String> = {
        let unknown = shelf.unknown.borrow();
        names.iter().filter(|n| unknown.is_empty() || !unknown.contains(&(store.clone(), (*n).clone()))).collect()
    };
    let rows = loop {
        let mut sql = format!("SELECT FOUND_ROWS(), LAST_INSERT_ID(), DATABASE(), {OFFSET}");
        for name in &names {
            sql.push_str(", @@session.");
            sql.push_str(&quoted(name));
        }
        match backend.query(sql.as_bytes()).await {
            Ok(rows) => break rows,
            Err(QueryError::Refused(error)) => {
                let message = String::from_utf8_lossy(&error.message).to_ascii_lowercase();
                let Some(at) = names.iter().position(|n| message.contains(&format!("'{n}'"))) else {
                    return Err(QueryError::Refused(error));
                };
                let name = names.remove(at).clone();
                shelf.unknown.borrow_mut().insert((store.clone(), name));
            }
            Err(e) => return Err(e),
        }
    };
    let user_variables = save_user_variables(backend, user_variables).await?;
    let number = |at: usize| text(&rows, at).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    let values = names.iter().zip(FIXED..).map(|(n, at)| ((*n).clone(), rows.first(at).map(<[u8]>::to_vec)));
    let values = Values { store, offset: text(&rows, 3).unwrap_or_default(), variables: values.collect() };
    Ok(Saved {
        values: shelf.share(values),
        database: text(&rows, 2),
        user_variables,
        last_insert_id: number(1),
        found_rows: number(0),
    })
}

/// Names of user variables, all of them: triggers set some that no statement names. MariaDB only.
pub(crate) const USER_VARIABLES: &str =
    "SELECT VARIABLE_NAME FROM information_schema.USER_VARIABLES LIMIT 18446744073709551615";

async fn save_user_variables(
    backend: &mut Backend,
    known: &[Box<str>],
) -> Result<Vec<(Box<str>, Box<str>)>, QueryError> {
    let mariadb = matches!(backend.handle.probed().map(|p| p.engine), Some(Engine::MariaDb { .. }));
    let mut names: Vec<Box<str>> = known.to_vec();
    if mariadb {
        match backend.query(USER_VARIABLES.as_bytes()).await {
            Ok(rows) => {
                names = rows
                    .rows
                    .iter()
                    .filter_map(|r| r.first()?.as_deref())
                    .map(|n| String::from_utf8_lossy(n).into())
                    .collect();
            }
            // an old server without the plugin
            Err(QueryError::Refused(_)) => {}
            Err(e) => return Err(e),
        }
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<String> = names
        .iter()
        .map(|n| {
            let v = format!("@{}", quoted(n));
            format!("{v}, HEX({v}), CHARSET({v}), COLLATION({v})")
        })
        .collect();
    let rows = backend.query(format!("SELECT {}", list.join(", ")).as_bytes()).await?;
    let values = names.into_iter().enumerate().map(|(i, name)| (name, variable_literal(&rows, i * 4).into()));
    Ok(values.collect())
}

/// What a connection is to be made ready from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cleaning {
    /// It was somebody else's.
    pub(crate) reset: bool,
    /// The option of multi-statements is to be set so.
    pub(crate) multi_statements: Option<bool>,
}

/// Sends everything at once; the errors of the SET and of the database are returned, those of the reset end the connection.
pub(crate) async fn restore(
    backend: &mut Backend,
    cleaning: Cleaning,
    saved: Option<&Saved>,
    database: Option<&str>,
) -> Result<(Option<ErrPacket>, Option<ErrPacket>), QueryError> {
    let mut out = Vec::new();
    if cleaning.reset {
        packet::put(&mut out, 0, &[COM_RESET_CONNECTION]);
    }
    if let Some(on) = cleaning.multi_statements {
        packet::put(&mut out, 0, &[COM_SET_OPTION, u8::from(!on), 0]);
    }
    let set = saved.map(set_statement).filter(|s| !s.is_empty());
    if let Some(set) = &set {
        let mut payload = vec![COM_QUERY];
        payload.extend_from_slice(set.as_bytes());
        packet::put(&mut out, 0, &payload);
    }
    if let Some(database) = database {
        let mut payload = vec![COM_INIT_DB];
        payload.extend_from_slice(database.as_bytes());
        packet::put(&mut out, 0, &payload);
    }
    if out.is_empty() {
        return Ok((None, None));
    }
    backend.stream.write(&out).await?;
    if cleaning.reset {
        backend.collect(Expect::Ok).await?;
    }
    if cleaning.multi_statements.is_some() {
        backend.collect(Expect::Ok).await?;
    }
    let refused = |answer: Result<Rows, QueryError>| match answer {
        Ok(_) => Ok(None),
        Err(QueryError::Refused(e)) => Ok(Some(e)),
        Err(e) => Err(e),
    };
    let set = if set.is_some() { refused(backend.collect(Expect::Results).await)? } else { None };
    let database = if database.is_some() { refused(backend.collect(Expect::Ok).await)? } else { None };
    Ok((set, database))
}

/// What SET NAMES sets.
const NAMES: [&str; 4] =
    ["character_set_client", "character_set_connection", "character_set_results", "collation_connection"];

fn set_statement(saved: &Saved) -> String {
    let mut parts: Vec<String> = Vec::new();
    let value = |name: &str| saved.values.variables.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.as_deref());
    let charset = value("character_set_client");
    // SET NAMES sets what no variable shows, the collation that results come with
    let one =
        charset.is_some() && charset == value("character_set_connection") && charset == value("character_set_results");
    if let (true, Some(charset), Some(collation)) = (one, charset, value("collation_connection")) {
        let text = |v: &[u8]| String::from_utf8_lossy(v).replace('\'', "''");
        parts.push(format!("NAMES '{}' COLLATE '{}'", text(charset), text(collation)));
    }
    let by_names = |name: &str| one && NAMES.contains(&name);
    let others = saved.values.variables.iter().filter(|(name, _)| !by_names(name));
    parts.extend(others.map(|(name, value)| format!("SESSION {} = {}", quoted(name), literal(name, value.as_deref()))));
    parts.extend(saved.user_variables.iter().map(|(n, v)| format!("@{} = {v}", quoted(n))));
    if saved.last_insert_id != 0 {
        parts.push(format!("SESSION last_insert_id = {}", saved.last_insert_id));
    }
    if parts.is_empty() { String::new() } else { format!("SET {}", parts.join(", ")) }
}

/// The names of what follows a session, and of what it has set.
pub(crate) fn followed<'a>(own: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = FOLLOW.iter().map(|n| (*n).to_owned()).collect();
    let mut more: Vec<String> = own.filter(|n| !FOLLOW.contains(n) && *n != "timestamp").map(str::to_owned).collect();
    names.append(&mut more);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(mode: &str) -> Values {
        Values {
            store: "legacy".into(),
            offset: "00:00".into(),
            variables: vec![("sql_mode".into(), Some(mode.into())), ("autocommit".into(), Some(b"1".to_vec()))],
        }
    }

    #[test]
    fn one_set_carries_all() {
        let saved = Saved {
            values: Rc::new(values("ANSI")),
            database: None,
            user_variables: vec![("a`b".into(), "5".into())],
            last_insert_id: 7,
            found_rows: 0,
        };
        let expected =
            "SET SESSION `sql_mode` = 'ANSI', SESSION `autocommit` = 1, @`a``b` = 5, SESSION last_insert_id = 7";
        assert_eq!(set_statement(&saved), expected);
    }

    #[test]
    fn equal_values_are_kept_once() {
        let shelf = Shelf::default();
        let first = shelf.share(values("ANSI"));
        assert!(Rc::ptr_eq(&first, &shelf.share(values("ANSI"))));
        let other = shelf.share(values(""));
        assert!(!Rc::ptr_eq(&first, &other));
        drop(other);
        assert_eq!(shelf.values.borrow().iter().filter(|v| v.strong_count() > 0).count(), 1);
    }
}
