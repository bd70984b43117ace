//! The binlog of a MariaDB (or MySQL) server, as a replica reads it.
//!
//! ```text
//! connect ─► COM_BINLOG_DUMP (@slave_connect_state), or MySQL's COM_BINLOG_DUMP_GTID ─► events ─► whole transactions ─► Item
//!    ▲ lost, silent, restarted: from the position after the last whole transaction │
//!    └─────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! | file | does |
//! |---|---|
//! | [`event`] | event headers, checksums |
//! | [`table_map`] | which table, and the types of its columns |
//! | [`rows`] | row images → values |
//! | [`query`] | statements in the log: transaction control, DDL, and what should not be there |
//! | [`assemble`] | events → whole transactions, or a stop: pure |
//! | [`mod@write`] | rows → the statement that applies them: pure |
//!
//! Bytes are decoded here rather than by mysql_common's event reader: it copies its format description for each event and
//! panics on a packet that ends early. Source: MariaDB's "Replication Protocol" and sql/log_event.h; RULES.md 40, 42, 47.

pub mod assemble;
pub mod event;
pub mod query;
pub mod rows;
pub mod table_map;
pub mod write;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use self::assemble::Assembler;
use super::{Item, LogError, Stop, Tables};
use crate::backend::{Backend, StoreHandle, control};
use crate::entry::{GtidSet, Position};
use crate::wire::ErrPacket;

const COM_BINLOG_DUMP: u8 = 0x12;
const COM_BINLOG_DUMP_GTID: u8 = 0x1E;
/// Its flag: a set of GTIDs follows.
const THROUGH_GTID: u16 = 4;
/// The server says that it is there this often, nanoseconds.
const HEARTBEAT: &str = "1000000000";
/// So long without a word, the connection counts as lost.
const SILENCE: Duration = Duration::from_secs(8);
/// For connecting and for each statement before the dump.
const LIMIT: Duration = Duration::from_secs(10);
/// The largest event that is read: MariaDB's own bound of a packet.
const MAX_EVENT: usize = 1 << 30;

/// A log that is being read.
pub struct Log {
    backend: Backend,
    assembler: Assembler,
}

impl Log {
    /// Starts to read behind `from`. `server_id` must be no other reader's: a server ends the older of two.
    ///
    /// # Errors
    /// [`LogError`]; a position that the server no longer has, or never had, is a [`Stop`].
    pub async fn open(
        store: &Arc<StoreHandle>,
        server_id: u32,
        from: Position,
        tables: Box<dyn Tables>,
    ) -> Result<Log, LogError> {
        let mut backend = control::connect(store, LIMIT).await.map_err(|e| LogError::Lost(e.to_string()))?;
        let mut statements = vec![
            "SET @master_binlog_checksum = @@global.binlog_checksum".to_owned(),
            format!("SET @master_heartbeat_period = {HEARTBEAT}"),
        ];
        let (command, dump) = match &from {
            Position::Gtids(_) => {
                statements.push("SET @mariadb_slave_capability = 4".to_owned());
                statements.push(format!("SET @slave_connect_state = '{from}'"));
                // a GTID that the server never wrote is an error rather than a wait
                statements.push("SET @slave_gtid_strict_mode = 1".to_owned());
                (COM_BINLOG_DUMP, dump_at("", 4, server_id))
            }
            Position::File { file, offset } => {
                statements.push("SET @mariadb_slave_capability = 4".to_owned());
                let offset = u32::try_from(*offset);
                let offset = offset.map_err(|_| LogError::Lost(format!("{from}: an offset beyond 4 GiB")))?;
                (COM_BINLOG_DUMP, dump_at(file, offset, server_id))
            }
            Position::Set(set) => (COM_BINLOG_DUMP_GTID, dump_behind(set, server_id)),
            Position::Journal { .. } => {
                let what = format!("the copy is at {from}, which is no place in a binlog");
                let remedy = "load the standby again, then `switchover init GROUP`".to_owned();
                return Err(LogError::Stop(Box::new(Stop { transaction: String::new(), what, remedy, after: None })));
            }
        };
        for statement in statements {
            let done = timeout(LIMIT, backend.query(statement.as_bytes())).await;
            match done {
                Ok(Ok(_)) => {}
                Ok(Err(e)) => return Err(LogError::Lost(format!("{statement}: {e}"))),
                Err(_) => return Err(LogError::Lost("it does not answer".to_owned())),
            }
        }
        backend.send(command, &dump).await?;
        Ok(Log { backend, assembler: Assembler::new(from, tables) })
    }

    /// The next item. Cancelling it loses nothing only where the log is dropped afterwards.
    ///
    /// # Errors
    /// [`LogError`]; the log is to be dropped then.
    pub async fn next(&mut self) -> Result<Item, LogError> {
        loop {
            let read = timeout(SILENCE, self.backend.stream.read_message(MAX_EVENT)).await;
            let (_, packet) = match read {
                Ok(read) => read?,
                Err(_) => return Err(LogError::Lost("its log fell silent: not even a heartbeat".to_owned())),
            };
            match packet.split_first() {
                Some((0, event)) => {
                    if let Some(item) = self.assembler.push(event)? {
                        return Ok(item);
                    }
                }
                Some((0xFF, _)) => return Err(self.refused(&packet)),
                _ => return Err(LogError::Lost("the server ended its log".to_owned())),
            }
        }
    }

    /// What the server says instead of an event.
    fn refused(&self, packet: &[u8]) -> LogError {
        let Ok(error) = ErrPacket::read(packet) else { return LogError::Lost("no event and no error".to_owned()) };
        let text = String::from_utf8_lossy(&error.message).into_owned();
        let store = self.backend.handle.name();
        let (what, remedy) = match error.code {
            // ER_MASTER_FATAL_ERROR_READING_BINLOG: purged, reset, or behind what was applied
            1236 => (
                format!("{store} cannot continue its log behind {}: {text}", self.assembler.position()),
                format!(
                    "the standby cannot catch up from this log any more: load it again ({}), then `switchover init GROUP --from \
                     POSITION`\nlet {store} keep its binlogs for longer: SET GLOBAL expire_logs_days = 7",
                    dump(self.assembler.position())
                ),
            ),
            // ER_SPECIFIC_ACCESS_DENIED_ERROR and friends
            1227 | 1045 | 1142 => (
                format!("{store} does not give its log to the control account: {text}"),
                format!("on {store}: GRANT REPLICATION SLAVE ON *.* TO the control account of stores.{store}.control"),
            ),
            _ => return LogError::Lost(error.to_string()),
        };
        let stop = Stop { transaction: String::new(), what, remedy, after: None };
        LogError::Stop(Box::new(stop))
    }
}

/// The command that dumps an authority, by how its log counts.
fn dump(position: &Position) -> &'static str {
    match position {
        Position::Set(_) => "mysqldump --single-transaction: its GTID_PURGED is the position",
        Position::File { .. } => "mysqldump --single-transaction --master-data=1",
        Position::Gtids(_) | Position::Journal { .. } => "mariadb-dump --single-transaction --gtid --master-data=1",
    }
}

/// What `COM_BINLOG_DUMP` carries.
fn dump_at(file: &str, offset: u32, server_id: u32) -> Vec<u8> {
    let mut dump = offset.to_le_bytes().to_vec();
    dump.extend(0u16.to_le_bytes());
    dump.extend(server_id.to_le_bytes());
    dump.extend(file.bytes());
    dump
}

/// What `COM_BINLOG_DUMP_GTID` carries: whatever is not in the set is to be sent, from wherever that is.
fn dump_behind(set: &GtidSet, server_id: u32) -> Vec<u8> {
    let set = set.encode();
    let mut dump = THROUGH_GTID.to_le_bytes().to_vec();
    dump.extend(server_id.to_le_bytes());
    // (no file, from its first event)
    dump.extend(0u32.to_le_bytes());
    dump.extend(4u64.to_le_bytes());
    dump.extend(u32::try_from(set.len()).unwrap_or(u32::MAX).to_le_bytes());
    dump.extend(set);
    dump
}
