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

/// Where the log ends now. Of a journal: its newest entry that is committed.
///
/// # Errors
/// [`EndError`].
pub async fn end(backend: &mut Backend, kind: ChangeLog) -> Result<Position, EndError> {
    match kind {
        ChangeLog::Binlog => match gtids(backend, "SELECT @@gtid_binlog_pos").await? {
            Some(rows) => parsed(text(&rows, 0)),
            None => file_end(backend).await,
        },
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

/// A place in the binlog of a store that is open as the authority, behind every commit that it has answered by now; nothing, where
/// it is not. Nothing is written for it.
///
/// # Errors
/// [`EndError`].
pub async fn end_of_open(backend: &mut Backend, group: &str, authority: &str) -> Result<Option<Position>, EndError> {
    let open = is_open(group, authority);
    let Some(found) = gtids(backend, &format!("SELECT @@GLOBAL.gtid_binlog_state, ({open})")).await? else {
        let end = file_end(backend).await?;
        return Ok((text(&backend.query(open.as_bytes()).await?, 0) == "1").then_some(end));
    };
    if text(&found, 1) != "1" {
        return Ok(None);
    }
    let state = text(&found, 0);
    Position::highest(&state).map(Some).map_err(|_| EndError::Unclear(state))
}

/// The answer of a server with MariaDB's GTIDs; nothing from another.
async fn gtids(backend: &mut Backend, sql: &str) -> Result<Option<Rows>, QueryError> {
    match backend.query(sql.as_bytes()).await {
        Ok(rows) => Ok(Some(rows)),
        Err(QueryError::Refused(e)) if e.code == NO_SUCH_VARIABLE => Ok(None),
        Err(e) => Err(e),
    }
}

/// Where a binlog ends, by file and offset (MySQL).
async fn file_end(backend: &mut Backend) -> Result<Position, EndError> {
    let rows = match backend.query(b"SHOW MASTER STATUS").await {
        // (the words of MySQL 8.4)
        Err(QueryError::Refused(e)) if e.code == NO_SUCH_WORDS => backend.query(b"SHOW BINARY LOG STATUS").await?,
        other => other?,
    };
    parsed(format!("{}:{}", text(&rows, 0), text(&rows, 1)))
}

fn parsed(found: String) -> Result<Position, EndError> {
    found.parse().map_err(|_| EndError::Unclear(found))
}

/// Whether a store says of itself that it serves the group: 1.
fn is_open(group: &str, authority: &str) -> String {
    format!(
        "SELECT COUNT(*) FROM switchover.groups WHERE group_name = {} AND state = 'open' AND authority = {}",
        literal(group),
        literal(authority)
    )
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
    group: &str,
    authority: &str,
) -> Result<Option<Position>, EndError> {
    if kind == ChangeLog::Journal {
        if text(&backend.query(is_open(group, authority).as_bytes()).await?, 0) != "1" {
            return Ok(None);
        }
        return signal(backend, marking, group).await.map(Some);
    }
    let open = format!(" AND state = 'open' AND authority = {}", literal(authority));
    if backend.execute(touch(group, &open).as_bytes()).await?.affected_rows != 1 {
        return Ok(None);
    }
    let place = match gtids(backend, "SELECT @@last_gtid").await? {
        Some(rows) => parsed(text(&rows, 0)),
        None => file_end(backend).await,
    };
    place.map(Some)
}

/// A change of the group's own row, `further` conditions met: in a binlog, the signal by which an applier writes its position down.
fn touch(group: &str, further: &str) -> String {
    format!("UPDATE switchover.groups SET changed = NOW(6) WHERE group_name = {}{further}", literal(group))
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
    /// Where the store's log ends now.
    ///
    /// # Errors
    /// As the store's.
    pub async fn log_end(&mut self) -> Result<Position, PairError> {
        let found = end(&mut self.backend, self.store.config.change_log).await;
        found.map_err(|e| self.unclear(e))
    }

    /// A place in the log of a store that is sealed, behind all that was written there.
    ///
    /// # Errors
    /// As the store's.
    pub async fn last_mark(&mut self, group: &str) -> Result<Position, PairError> {
        match self.store.config.change_log {
            // behind the seal nothing of the group is written: any place from there on has it all. A signal behind it makes the
            // applier say at once that it has passed it, whatever else is written there meanwhile
            ChangeLog::Binlog => {
                let end = self.log_end().await?;
                self.execute(&touch(group, "")).await?;
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
