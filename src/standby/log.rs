//! Where a store's change log ends, and a mark in it: of a binlog, or of a journal.
//!
//! A mark is behind everything that was committed on the store before it, and whoever applies the log writes its position down
//! at once when it meets one.

use super::pair::{PairError, Side};
use super::schema::literal;
use crate::backend::Backend;
use crate::backend::connection::{QueryError, Rows};
use crate::changes::journal::{self, Entry, Ids, Kind, Secret, intent, schema};
use crate::config::model::ChangeLog;
use crate::entry::{Position, Uuid};

/// The store's error: it has no such variable.
const NO_SUCH_VARIABLE: u16 = 1193;
/// The store's error: it does not know a statement.
const NO_SUCH_WORDS: u16 = 1064;

/// Why nothing is known of a log.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// The store refused, or was lost.
    #[error("{0}")]
    Query(#[from] QueryError),
    /// What it says is no position.
    #[error("it says {0:?} of its log")]
    Unclear(String),
}

fn text(rows: &Rows, at: usize) -> String {
    rows.first(at).map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default()
}

/// The kind of log that a place is in.
#[must_use]
pub fn kind(place: &Position) -> ChangeLog {
    if matches!(place, Position::Journal { .. }) { ChangeLog::Journal } else { ChangeLog::Binlog }
}

/// Where the log ends now, as who is at `done` counts, or else by what the log counts best. Of a journal: its newest entry that is
/// committed.
///
/// # Errors
/// [`EndError`].
pub async fn end(backend: &mut Backend, kind: ChangeLog, done: Option<&Position>) -> Result<Position, EndError> {
    match kind {
        ChangeLog::Binlog => binlog_end(backend, "SELECT @@gtid_binlog_pos", done).await,
        ChangeLog::Journal => {
            let rows =
                backend.query(b"SELECT id, LOWER(HEX(uuid)) FROM switchover.journal ORDER BY id DESC LIMIT 1").await?;
            if rows.rows.is_empty() {
                return Ok(Position::Journal { id: 0, uuid: Uuid::default() });
            }
            position(&text(&rows, 0), &text(&rows, 1))
        }
    }
}

/// By which row a store serves a group: another epoch's authority of the same name has another history behind it.
#[derive(Debug, Clone, Copy)]
pub struct Serves<'a> {
    /// The group.
    pub group: &'a str,
    /// The authority, which the store is.
    pub authority: &'a str,
    /// Since this epoch.
    pub epoch: u64,
}

impl Serves<'_> {
    /// The condition that the row is this one, for `switchover.groups`.
    fn condition(self) -> String {
        let (group, authority, epoch) = (literal(self.group), literal(self.authority), self.epoch);
        format!("group_name = {group} AND state = 'open' AND authority = {authority} AND epoch = {epoch}")
    }

    /// Whether it is: 1.
    fn question(self) -> String {
        format!("SELECT COUNT(*) FROM switchover.groups WHERE {}", self.condition())
    }
}

/// A place in the binlog of a store that is open as the authority, behind every commit that it has answered by now; nothing, where
/// it is not. Nothing is written for it.
///
/// # Errors
/// [`EndError`].
pub async fn end_of_open(
    backend: &mut Backend,
    serves: Serves<'_>,
    done: &Position,
) -> Result<Option<Position>, EndError> {
    let open = serves.question();
    let state = format!("SELECT @@GLOBAL.gtid_binlog_state, ({open})");
    let Some(found) = gtids(backend, &state, Some(done)).await? else {
        let end = other_end(backend, Some(done)).await?;
        return Ok((text(&backend.query(open.as_bytes()).await?, 0) == "1").then_some(end));
    };
    if text(&found, 1) != "1" {
        return Ok(None);
    }
    let state = text(&found, 0);
    Position::highest(&state).map(Some).map_err(|_| EndError::Unclear(state))
}

async fn binlog_end(backend: &mut Backend, gtid: &str, done: Option<&Position>) -> Result<Position, EndError> {
    match gtids(backend, gtid, done).await? {
        Some(rows) => parsed(text(&rows, 0)),
        None => other_end(backend, done).await,
    }
}

/// What a server with MariaDB's GTIDs answers to who counts in them; nothing from another, or for another.
async fn gtids(backend: &mut Backend, sql: &str, done: Option<&Position>) -> Result<Option<Rows>, QueryError> {
    if done.is_some_and(|done| !matches!(done, Position::Gtids(_))) {
        return Ok(None);
    }
    match backend.query(sql.as_bytes()).await {
        Ok(rows) => Ok(Some(rows)),
        Err(QueryError::Refused(e)) if e.code == NO_SUCH_VARIABLE => Ok(None),
        Err(e) => Err(e),
    }
}

/// Where the binlog of a server without MariaDB's GTIDs ends, or for who counts without them: by MySQL's, where each transaction has
/// one, else by file and offset.
async fn other_end(backend: &mut Backend, done: Option<&Position>) -> Result<Position, EndError> {
    let by_file = matches!(done, Some(Position::File { .. }));
    if !by_file && let Some(set) = executed(backend).await? {
        return set.parse().map(Position::Set).map_err(|_| EndError::Unclear(set));
    }
    if done.is_some() && !by_file {
        return Err(EndError::Unclear("no GTID of a transaction (gtid_mode)".to_owned()));
    }
    let rows = match backend.query(b"SHOW MASTER STATUS").await {
        // (the words of MySQL 8.4)
        Err(QueryError::Refused(e)) if e.code == NO_SUCH_WORDS => backend.query(b"SHOW BINARY LOG STATUS").await?,
        other => other?,
    };
    parsed(format!("{}:{}", text(&rows, 0), text(&rows, 1)))
}

/// The GTIDs that a MySQL has in its log, where each transaction has one.
async fn executed(backend: &mut Backend) -> Result<Option<String>, QueryError> {
    match backend.query(b"SELECT @@GLOBAL.gtid_mode, @@GLOBAL.gtid_executed").await {
        // (they stay there when GTIDs are switched off)
        Ok(rows) => Ok(Some(text(&rows, 1)).filter(|set| text(&rows, 0) == "ON" && !set.is_empty())),
        Err(QueryError::Refused(e)) if e.code == NO_SUCH_VARIABLE => Ok(None),
        Err(e) => Err(e),
    }
}

fn parsed(found: String) -> Result<Position, EndError> {
    found.parse().map_err(|_| EndError::Unclear(found))
}

fn position(id: &str, uuid: &str) -> Result<Position, EndError> {
    let unclear = || EndError::Unclear(format!("{id} {uuid}"));
    let id = id.parse().map_err(|_| unclear())?;
    Ok(Position::Journal { id, uuid: uuid.parse().map_err(|_| unclear())? })
}

/// How marks are made on a store, as long as a connection to it lasts.
#[derive(Debug, Default)]
pub struct Marking(Option<(Secret, Ids)>);

/// Writes a mark, and says where it is. Nothing, where the store is not the authority that it was taken for.
///
/// # Errors
/// [`EndError`].
pub async fn mark(
    backend: &mut Backend,
    marking: &mut Marking,
    kind: ChangeLog,
    serves: Serves<'_>,
    done: &Position,
) -> Result<Option<Position>, EndError> {
    if kind == ChangeLog::Journal {
        if text(&backend.query(serves.question().as_bytes()).await?, 0) != "1" {
            return Ok(None);
        }
        return signal(backend, marking, serves.group).await.map(Some);
    }
    if backend.execute(touch(&serves.condition()).as_bytes()).await?.affected_rows != 1 {
        return Ok(None);
    }
    binlog_end(backend, "SELECT @@last_gtid", Some(done)).await.map(Some)
}

/// A change of the group's own row: in a binlog, the signal by which an applier writes its position down.
fn touch(condition: &str) -> String {
    format!("UPDATE switchover.groups SET changed = NOW(6) WHERE {condition}")
}

/// Enters a signal in a journal: everything that is committed by now is before it.
async fn signal(backend: &mut Backend, marking: &mut Marking, group: &str) -> Result<Position, EndError> {
    if marking.0.is_none() {
        marking.0 = schema::signing(backend).await?;
    }
    let (secret, ids) = marking.0.as_ref().ok_or_else(|| EndError::Unclear("no secret".to_owned()))?;
    let uuid = journal::new_uuid();
    let signal = Entry {
        uuid,
        group: group.to_owned(),
        transaction: uuid,
        part: 0,
        parts: 0,
        kind: Kind::Signal,
        at: journal::now(),
        payload: Vec::new(),
    };
    backend.execute(b"START TRANSACTION").await?;
    if let Err(error) = journal::enter(backend, &[signal], secret, *ids).await {
        backend.execute(b"ROLLBACK").await?;
        return Err(error.into());
    }
    backend.execute(b"COMMIT").await?;
    let hex = uuid.to_string();
    let sql = format!("SELECT id FROM switchover.journal WHERE transaction_uuid = X'{hex}'");
    let id = text(&backend.query(sql.as_bytes()).await?, 0);
    position(&id, &hex)
}

impl Side {
    /// Where the store's log ends now; see [`end`].
    ///
    /// # Errors
    /// As the store's.
    pub async fn log_end(&mut self, done: Option<&Position>) -> Result<Position, PairError> {
        let found = end(&mut self.backend, self.store.config.change_log, done).await;
        found.map_err(|e| self.unclear(e))
    }

    /// A place in the log of a store that is sealed, behind all that was written there, as who is at `done` counts.
    ///
    /// # Errors
    /// As the store's.
    pub async fn last_mark(&mut self, group: &str, done: &Position) -> Result<Position, PairError> {
        match self.store.config.change_log {
            // behind the seal nothing of the group is written: any place from there on has it all. A signal behind it makes the
            // applier say at once that it has passed it, whatever else is written there meanwhile
            ChangeLog::Binlog => {
                let end = self.log_end(Some(done)).await?;
                self.execute(&touch(&format!("group_name = {}", literal(group)))).await?;
                Ok(end)
            }
            ChangeLog::Journal => {
                signal(&mut self.backend, &mut Marking::default(), group).await.map_err(|e| self.unclear(e))
            }
        }
    }

    /// Enters what writers that are gone left half-way in tables without transactions; whether none of the group's is left. Before a
    /// seal: behind it the gate takes no entries.
    ///
    /// # Errors
    /// As the store's.
    pub async fn has_settled_intents(&mut self, group: &str) -> Result<bool, PairError> {
        if self.store.config.change_log != ChangeLog::Journal {
            return Ok(true);
        }
        let settled = intent::settle(&self.store, None).await;
        settled.map_err(|error| PairError::Unclear(format!("store {}: {error}", self.name())))?;
        let open = intent::open(&mut self.backend, group).await;
        Ok(open.map_err(|e| self.failed(e))? == 0)
    }

    fn unclear(&self, error: EndError) -> PairError {
        match error {
            EndError::Query(e) => PairError::Query(self.name().to_owned(), e),
            EndError::Unclear(_) => PairError::Unclear(format!("store {}: {error}", self.name())),
        }
    }
}
