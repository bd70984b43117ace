//! The standby's end: connections that apply parts, and the transaction that a part is.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::batch::{Plan, without_events};
use super::catalog::Catalog;
use super::marks::{self, Mark};
use super::merge::Misfit;
use super::schema::literal;
use super::statements::{Does, Statement};
use super::{record, seal};
use crate::backend::connection::QueryError;
use crate::backend::control::{self, ControlError};
use crate::backend::{Backend, StoreHandle};
use crate::changes::binlog::write;
use crate::entry::{Position, Transaction};
use crate::telemetry::without_values;
use crate::wire::ErrPacket;
use crate::wire::command::COM_QUERY;

/// What a session on the standby runs with, whatever the server's defaults: the authority's rows, as they are.
const SETTINGS: &str = "SET autocommit = 0, time_zone = '+00:00', foreign_key_checks = 0, unique_checks = 1, \
     sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION', \
     sql_safe_updates = 0, sql_auto_is_null = 0, innodb_lock_wait_timeout = 5, lock_wait_timeout = 5, wait_timeout = 20";
/// MariaDB's and MySQL's own; an error of one means the other.
const OPTIONAL: [&str; 6] = [
    "SET tx_isolation = 'READ-COMMITTED'",
    "SET transaction_isolation = 'READ-COMMITTED'",
    "SET check_constraint_checks = 0",
    "SET max_statement_time = 0",
    "SET sql_log_bin = 1",
    // (the text of a statement with a thousand rows says nothing that its rows do not)
    "SET binlog_annotate_row_events = 0",
];
const NAMES: &str = "SET NAMES binary";
const LIMIT: Duration = Duration::from_secs(10);
/// Statements of events that may be on their way behind the one whose answer is waited for.
const AHEAD: usize = 3;

/// Connects to the standby, ready to apply: with the token that its seal lets in.
///
/// # Errors
/// As the store's.
pub async fn connect(store: &Arc<StoreHandle>, group: &str) -> Result<Backend, ControlError> {
    let mut backend = control::connect(store, LIMIT).await?;
    let failed = |e| ControlError::Query(store.name().to_owned(), e);
    backend.execute(SETTINGS.as_bytes()).await.map_err(failed)?;
    for statement in OPTIONAL {
        match backend.execute(statement.as_bytes()).await {
            Ok(_) | Err(QueryError::Refused(_)) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    backend.execute(NAMES.as_bytes()).await.map_err(failed)?;
    match record::read(&mut backend, group).await {
        Ok(rows) => {
            if let Some(record) = rows.record {
                backend.execute(seal::show(&record.token).as_bytes()).await.map_err(failed)?;
            }
        }
        // the schema is not there, or is older: taking the lease says what mends that
        Err(QueryError::Refused(_)) => {}
        Err(e) => return Err(failed(e)),
    }
    backend.execute(b"COMMIT").await.map_err(failed)?;
    Ok(backend)
}

/// The prepared statement by which the standby takes row events from this connection: on a MariaDB, with the right BINLOG REPLAY.
///
/// # Errors
/// As the store's.
pub async fn takes_events(backend: &mut Backend, version: &str) -> Result<Option<u32>, QueryError> {
    if !version.to_lowercase().contains("mariadb") {
        return Ok(None);
    }
    let try_it = async {
        let take = backend.prepare(write::TAKE.as_bytes()).await?;
        backend.execute_prepared(take, &write::format_description()).await?;
        backend.execute(write::APPLY.as_bytes()).await?;
        Ok(take)
    };
    match try_it.await {
        Ok(take) => Ok(Some(take)),
        Err(QueryError::Refused(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether a row event that does not fit is an error on this server, and not passed over.
async fn is_strict(backend: &mut Backend) -> Result<bool, Failed> {
    match backend.query(b"SELECT @@GLOBAL.slave_exec_mode").await {
        Ok(rows) => Ok(rows.first(0).is_some_and(|mode| mode.eq_ignore_ascii_case(b"STRICT"))),
        Err(QueryError::Refused(_)) => Ok(false),
        Err(e) => Err(Failed::of(e)),
    }
}

/// Reads the rows of `switchover.marks` of a group.
///
/// # Errors
/// As the store's; marks that make no sense as a message.
pub async fn read_marks(backend: &mut Backend, group: &str) -> Result<Vec<Mark>, Failed> {
    let rows = backend.query(marks::select(group).as_bytes()).await.map_err(Failed::of)?;
    backend.execute(b"COMMIT").await.map_err(Failed::of)?;
    rows.rows.iter().map(|row| mark_of(row).map_err(|e| Failed::Lost(e.to_string()))).collect()
}

/// A mark from its row.
///
/// # Errors
/// As [`marks::from_cells`].
pub(super) fn mark_of(row: &[Option<Vec<u8>>]) -> Result<Mark, marks::BadMarks> {
    let text = |v: &Option<Vec<u8>>| String::from_utf8_lossy(v.as_deref().unwrap_or_default()).into_owned();
    marks::from_cells(&row.iter().map(text).collect::<Vec<_>>())
}

/// Why a part was not applied. Nothing of it is there then, but after [`Failed::Lost`], which leaves that open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// The connection is lost; whether a COMMIT arrived, the marks say.
    #[error("{0}")]
    Lost(String),
    /// Another applier has the lease.
    #[error("another applier has taken over")]
    Deposed,
    /// A deadlock or a lock wait: again.
    #[error("{0}")]
    Busy(String),
    /// The rows do not fit the standby.
    #[error("{what}")]
    Misfit {
        /// What differs.
        what: String,
        /// What mends it.
        remedy: String,
    },
}

impl Failed {
    /// From an error of the standby.
    #[must_use]
    pub fn of(error: QueryError) -> Failed {
        let QueryError::Refused(e) = &error else { return Failed::Lost(error.to_string()) };
        match e.code {
            1205 | 1213 | 1020 => Failed::Busy(error.to_string()),
            // shutdown, killed, read-only, full disk, too many connections: not the rows' fault, and it may pass
            1053 | 1317 | 1927 | 1290 | 1792 | 1836 | 1040 | 1041 | 1114 | 1021 | 3 | 28 | 1030 | 1969 | 4031 => {
                Failed::Lost(error.to_string())
            }
            _ => Failed::Misfit { what: error.to_string(), remedy: remedy_of(e.code).to_owned() },
        }
    }
}

fn remedy_of(code: u16) -> &'static str {
    match code {
        1062 => "the standby holds a row that the authority does not: delete it there, then `switchover standby retry`",
        1142 | 1143 | 1044 | 1045 => {
            "GRANT SELECT, INSERT, UPDATE, DELETE on the table to the standby's control account"
        }
        1153 => "on the standby: SET GLOBAL max_allowed_packet = 1073741824, then `switchover standby retry`",
        1146 | 1054 | 1136 => "make the standby's table as the authority's, then `switchover standby retry`",
        1264 | 1265 | 1366 | 1406 | 1292 => {
            "the standby's column does not hold the value: make it as the authority's, then `switchover standby retry`"
        }
        _ => "mend it on the standby, then `switchover standby retry`",
    }
}

impl From<Misfit> for Failed {
    fn from(misfit: Misfit) -> Failed {
        let remedy = match &misfit {
            Misfit::NoKey(table) => format!("on both stores: ALTER TABLE {} ADD PRIMARY KEY (…)", table.quoted()),
            Misfit::NoTable(table) => {
                format!("create it on the standby (SHOW CREATE TABLE {} on the authority)", table.quoted())
            }
            Misfit::Shape { .. } => {
                "make the standby's table as the authority's, then `switchover standby retry`".to_owned()
            }
            Misfit::Contradiction(_) => "load the standby again".to_owned(),
        };
        Failed::Misfit { what: misfit.to_string(), remedy }
    }
}

/// What is written with a part.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// The group.
    pub group: String,
    /// The term of the lease.
    pub term: u64,
    /// The authority's name.
    pub authority: String,
    /// This round.
    pub round: i64,
    /// Its parts.
    pub parts: usize,
    /// Where it begins.
    pub base: Position,
    /// Where it ends.
    pub position: Position,
    /// When its last transaction committed on the authority.
    pub committed_at: u32,
}

impl Stamp {
    fn update(&self, part: usize, ids: &BTreeSet<String>) -> String {
        let text = |value: &dyn std::fmt::Display| literal(&value.to_string());
        format!(
            "UPDATE switchover.marks SET authority = {}, round = {}, parts = {}, base = {}, position = {}, ids = {}, \
             committed_at = {} WHERE group_name = {} AND part = {part} AND term = {}",
            literal(&self.authority),
            self.round,
            self.parts,
            text(&self.base),
            text(&self.position),
            literal(&marks::ids_to_text(ids)),
            self.committed_at,
            literal(&self.group),
            self.term,
        )
    }
}

/// One part of a round: what is one transaction on the standby.
pub struct Part<'a> {
    /// The standby's tables.
    pub catalog: &'a Catalog,
    /// What it brings, in commit order.
    pub transactions: &'a [&'a Transaction],
    /// What is to be done for that.
    pub plan: Result<&'a Plan, Misfit>,
    /// What its mark says of the round.
    pub stamp: &'a Stamp,
    /// The ids that its mark holds.
    pub ids: &'a BTreeSet<String>,
    /// A statement that is to be in the same transaction.
    pub further: Option<&'a str>,
}

/// Does one part: its transactions' net effect and its mark, in the row `number`, in one transaction, which is left open. How
/// many rows that were.
///
/// # Errors
/// [`Failed`].
pub async fn execute(backend: &mut Backend, number: usize, take: Option<u32>, part: &Part<'_>) -> Result<u64, Failed> {
    let plan = part.plan.clone()?;
    let mark = part.stamp.update(number, part.ids);
    if !plan.events {
        return whole(backend, &mark, take, part, &plan.statements).await;
    }
    if is_strict(backend).await? {
        match whole(backend, &mark, take, part, &plan.statements).await {
            // statements say what it is, and may mend it: a type that the log has otherwise, a server that wants no events now
            Err(Failed::Misfit { what, .. }) => {
                let what = without_values(&what);
                tracing::debug!(group = part.stamp.group, what, "events do not fit");
            }
            other => return other,
        }
    }
    whole(backend, &mark, None, part, &without_events(part.transactions, part.catalog)?).await
}

/// Commits what [`execute`] has done.
///
/// # Errors
/// [`Failed`].
pub async fn commit(backend: &mut Backend) -> Result<(), Failed> {
    backend.execute(b"COMMIT").await.map(|_| ()).map_err(Failed::of)
}

/// All of it, or none.
async fn whole(
    backend: &mut Backend,
    mark: &str,
    take: Option<u32>,
    part: &Part<'_>,
    list: &[Statement],
) -> Result<u64, Failed> {
    let within = async {
        // the mark first: whoever was deposed learns it before it touches a row, and whoever deposes waits for this part's end
        let mark = backend.execute(mark.as_bytes()).await.map_err(Failed::of)?;
        if mark.affected_rows != 1 {
            return Err(Failed::Deposed);
        }
        let rows = all(backend, take, part, list).await?;
        if let Some(further) = part.further {
            backend.execute(further.as_bytes()).await.map_err(Failed::of)?;
        }
        Ok(rows)
    };
    let done = within.await;
    match &done {
        // the connection may be gone: then the server rolls back by itself
        Err(Failed::Lost(_)) => {}
        Err(_) => drop(backend.execute(b"ROLLBACK").await),
        Ok(_) => {}
    }
    done
}

/// Does the statements of a part, in order; how many rows that were. Events are sent ahead of the answers: each wait for one would
/// cost the way there and back, and on a standby that is busy the time until a thread of it runs again.
async fn all(backend: &mut Backend, take: Option<u32>, part: &Part<'_>, list: &[Statement]) -> Result<u64, Failed> {
    let (mut rows, mut sent) = (0, VecDeque::new());
    for statement in list {
        let events = take.filter(|_| statement.does == Does::Events);
        while sent.len() > if events.is_some() { AHEAD } else { 0 } {
            rows += answered(backend, part, &mut sent).await?;
        }
        match events {
            Some(take) => {
                backend.send_prepared(take, &statement.sql).await.map_err(|e| Failed::of(e.into()))?;
                backend.send(COM_QUERY, write::APPLY.as_bytes()).await.map_err(|e| Failed::of(e.into()))?;
                sent.push_back(statement);
            }
            None => rows += one(backend, part, statement).await?,
        }
    }
    while !sent.is_empty() {
        rows += answered(backend, part, &mut sent).await?;
    }
    Ok(rows)
}

/// Reads what the standby says of the first events that were sent; where it refuses them, its answers to all others too.
async fn answered(backend: &mut Backend, part: &Part<'_>, sent: &mut VecDeque<&Statement>) -> Result<u64, Failed> {
    let Some(statement) = sent.pop_front() else { return Ok(0) };
    let (taken, applied) = (accepted(backend).await?, accepted(backend).await?);
    let Some(error) = taken.or(applied) else { return Ok(statement.rows.unwrap_or(0)) };
    for _ in 0..sent.drain(..).len() * 2 {
        accepted(backend).await?;
    }
    Err(refused(backend, part, error, statement).await)
}

/// The standby's answer to what was sent: its error, if it refuses.
async fn accepted(backend: &mut Backend) -> Result<Option<ErrPacket>, Failed> {
    match backend.ok().await {
        Ok(_) => Ok(None),
        Err(QueryError::Refused(error)) => Ok(Some(error)),
        Err(e) => Err(Failed::of(e)),
    }
}

/// Does one statement of a part; how many rows that were.
async fn one(backend: &mut Backend, part: &Part<'_>, statement: &Statement) -> Result<u64, Failed> {
    let ok = match backend.execute(&statement.sql).await {
        Ok(ok) => ok,
        Err(QueryError::Refused(error)) => return Err(refused(backend, part, error, statement).await),
        Err(e) => return Err(Failed::of(e)),
    };
    if statement.rows.is_some_and(|n| n != ok.affected_rows) || ok.warnings != statement.warnings {
        return Err(difference(backend, statement, ok.affected_rows, ok.warnings).await);
    }
    Ok(ok.affected_rows)
}

/// What an error of a statement means.
async fn refused(backend: &mut Backend, part: &Part<'_>, error: ErrPacket, statement: &Statement) -> Failed {
    // (1356, 1347: what keeps the name of a table that has moved is a view)
    if matches!(error.code, 1146 | 1347 | 1356) {
        return gone(backend, part, error, statement).await;
    }
    explained(error, statement)
}

/// A table is not there: dropped, or where it is while the store is sealed, or back from there. Where it has moved, the catalog is
/// to be read again.
async fn gone(backend: &mut Backend, part: &Part<'_>, error: ErrPacket, statement: &Statement) -> Failed {
    let known = part.catalog.values().find(|t| t.name.to_string() == statement.table);
    let others = known.and_then(|t| if t.sealed { Some(t.name.clone()) } else { t.name.sealed() });
    if let Some(other) = others {
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            literal(&other.database),
            literal(&other.name)
        );
        match backend.query(sql.as_bytes()).await {
            Ok(rows) if rows.first(0).is_some_and(|n| n != b"0") => {
                return Failed::Lost(format!("{} is at {other} now", statement.table));
            }
            Ok(_) => {}
            Err(e) => return Failed::of(e),
        }
    }
    explained(error, statement)
}

fn explained(error: ErrPacket, statement: &Statement) -> Failed {
    match Failed::of(QueryError::Refused(error)) {
        Failed::Misfit { what, remedy } => Failed::Misfit { what: format!("{}: {what}", statement.table), remedy },
        other => other,
    }
}

/// A statement that did something else than it should: what, as far as the standby can tell.
async fn difference(backend: &mut Backend, statement: &Statement, rows: u64, warnings: u16) -> Failed {
    let table = &statement.table;
    if warnings != statement.warnings {
        let shown = backend.query(b"SHOW WARNINGS LIMIT 1").await.ok();
        let text = shown.and_then(|rows| rows.first(2).map(|v| String::from_utf8_lossy(v).into_owned()));
        let what = format!("{table}: {}", text.unwrap_or_else(|| format!("{warnings} warnings")));
        let remedy =
            "the standby's column does not hold the value: make it as the authority's, then `switchover standby retry`";
        return Failed::Misfit { what, remedy: remedy.to_owned() };
    }
    let expected = statement.rows.unwrap_or(0);
    let shown: String = String::from_utf8_lossy(&statement.sql).chars().take(400).collect();
    match statement.does {
        Does::Delete | Does::Update => Failed::Misfit {
            what: format!(
                "{table}: {} rows are not on the standby as the authority had them: {shown}",
                expected.saturating_sub(rows)
            ),
            remedy: "put the row there as the authority had it before, then `switchover standby retry`; or pass the transaction \
                     over: `switchover standby skip`"
                .to_owned(),
        },
        Does::Insert | Does::Clear | Does::Events | Does::Set => Failed::Misfit {
            what: format!("{table}: {rows} of {expected} rows were inserted"),
            remedy: "is there a trigger on the standby's table? DROP TRIGGER, then `switchover standby retry`".to_owned(),
        },
    }
}
