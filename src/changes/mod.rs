//! A store's change log: whole committed transactions, in commit order, each with a position that survives any crash (layer L2).
//!
//! Two kinds: [`binlog`], MariaDB's (GTIDs, or file and offset) and MySQL's (file and offset; its GTID sets and its binary JSON
//! wait for a server to try them on); and [`journal`], for an authority that has none. A log yields [`Item`]s; what it cannot yield exactly, it does not yield:
//! it stops with a [`Stop`] that says what was met, where, and what mends it. A connection that is lost is no stop: the
//! reader connects again, from the position after the last whole transaction.

pub mod binlog;
pub mod journal;

use std::sync::Arc;

use crate::backend::StoreHandle;
use crate::config::model::ChangeLog;
use crate::entry::{Position, Transaction};

/// A log that is being read, of either kind.
pub enum Log {
    /// The store's binlog.
    Binlog(Box<binlog::Log>),
    /// The journal that proxies write.
    Journal(Box<journal::Log>),
}

/// What is to be read.
#[derive(Debug, Clone)]
pub struct Source {
    /// Of which store.
    pub store: Arc<StoreHandle>,
    /// For which group.
    pub group: String,
    /// Of a binlog: as which replica; no other reader may have the number, for a server ends the older of two.
    pub server_id: u32,
}

impl Log {
    /// Starts to read behind `from`.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn open(source: &Source, from: Position, tables: Box<dyn Tables>) -> Result<Log, LogError> {
        Ok(match source.store.config.change_log {
            ChangeLog::Binlog => {
                Log::Binlog(Box::new(binlog::Log::open(&source.store, source.server_id, from, tables).await?))
            }
            ChangeLog::Journal => {
                Log::Journal(Box::new(journal::Log::open(&source.store, &source.group, &from, tables).await?))
            }
        })
    }

    /// The next item. Cancelling it loses nothing only where the log is dropped afterwards.
    ///
    /// # Errors
    /// [`LogError`]; the log is to be dropped then.
    pub async fn next(&mut self) -> Result<Item, LogError> {
        match self {
            Log::Binlog(log) => log.next().await,
            Log::Journal(log) => log.next().await,
        }
    }
}

/// What a log yields.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A transaction with changes of the group.
    Transaction(Transaction),
    /// Everything up to here concerns others.
    Passed(Position),
    /// The same, and somebody waits to hear that the standby is here.
    Signal(Position),
    /// Nothing new: the log's server is alive.
    Alive,
}

/// Whose a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// The group's: its changes are wanted.
    Group,
    /// The applier's own mark: its transactions came from the other store, and are not to go back there.
    Mark,
    /// The row that says who is the authority: whoever changes it waits for the standby to come that far.
    Signal,
    /// Another's.
    Other,
}

/// Says whose a table is.
pub trait Tables: Send + 'static {
    /// Whose is `database`.`name`?
    fn interest(&self, database: &str, name: &str) -> Interest;

    /// Whether a table of the group may be in this database.
    fn any_in(&self, database: &str) -> bool;

    /// Whether somebody waits to hear how far the log is applied, so that it is told each time that it has passed something of others.
    fn is_awaited(&self) -> bool {
        false
    }
}

/// The log holds something that cannot be applied exactly: an operator decides.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Stop {
    /// The transaction, by its name in the log; empty where the log as a whole is meant.
    pub transaction: String,
    /// What was met.
    pub what: String,
    /// What mends it, a command or a statement a line.
    pub remedy: String,
    /// Where the log goes on after the transaction; none where it cannot be skipped.
    pub after: Option<Position>,
}

/// Why there is no item.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The connection failed or was lost: connect again.
    #[error("{0}")]
    Lost(String),
    /// An operator decides.
    #[error(transparent)]
    Stop(Box<Stop>),
}

impl From<std::io::Error> for LogError {
    fn from(error: std::io::Error) -> LogError {
        LogError::Lost(error.to_string())
    }
}
