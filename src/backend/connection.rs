//! One logged-in connection to a store, and the small queries that the proxy itself asks on it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fleet::StoreHandle;
use super::pool::Pooled;
use crate::config::StoreId;
use crate::net::PacketStream;
use crate::wire::codec::{Malformed, Reader, put_lenenc};
use crate::wire::command::{COM_INIT_DB, COM_QUERY, COM_STMT_CLOSE, COM_STMT_EXECUTE, COM_STMT_PREPARE};
use crate::wire::packet::{self, HEADER, Header};
use crate::wire::reply::{Expect, Reply, Role};
use crate::wire::{Capabilities, ErrPacket, OkPacket, Status};

/// A connection to a store, logged in.
#[derive(Debug)]
pub struct Backend {
    /// Which store.
    pub store: StoreId,
    /// Its run-time handle.
    pub handle: Arc<StoreHandle>,
    /// The socket.
    pub stream: PacketStream,
    /// `CONNECTION_ID()` there.
    pub thread_id: u32,
    /// What was agreed on.
    pub capabilities: Capabilities,
    /// Status flags of its newest OK or EOF.
    pub status: Status,
    /// What its newest greeting challenged clients with.
    pub scramble: Vec<u8>,
    /// Its place in the pool (`pool: transaction`).
    pub pooled: Option<Box<Pooled>>,
    /// How often its store had been given up when it was made.
    pub given_up: u64,
}

/// Why a query of the proxy's own failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The connection is lost.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store refused it.
    #[error("{0}")]
    Refused(ErrPacket),
    /// The store does not follow the protocol.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

const MYSQL_TYPE_BLOB: u8 = 252;

/// A column of a small result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Vec<u8>,
    /// Its type byte (MYSQL_TYPE_…).
    pub kind: u8,
    /// Its collation id; 63 is binary.
    pub collation: u16,
    /// Its flags; 32 is UNSIGNED.
    pub flags: u16,
}

/// A small text result, read whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Columns.
    pub columns: Vec<Column>,
    /// Values, `None` for NULL.
    pub rows: Vec<Vec<Option<Vec<u8>>>>,
}

impl Rows {
    /// The value in the first row at column `at`.
    #[must_use]
    pub fn first(&self, at: usize) -> Option<&[u8]> {
        self.rows.first()?.get(at)?.as_deref()
    }
}

/// What a result may have at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of its packets.
    pub bytes: usize,
    /// Rows.
    pub rows: usize,
    /// Values.
    pub cells: usize,
}

/// Results of the proxy's own queries are small; a store that sends more is not trusted.
const RESULT: Bounds = Bounds { bytes: 64 << 20, rows: usize::MAX, cells: usize::MAX };

impl Backend {
    /// Wraps a stream that has just logged in, and counts it.
    #[must_use]
    pub fn new(
        store: StoreId,
        handle: Arc<StoreHandle>,
        stream: PacketStream,
        thread_id: u32,
        capabilities: Capabilities,
        status: Status,
    ) -> Backend {
        handle.leases.fetch_add(1, Ordering::Relaxed);
        let (scramble, given_up) = (Vec::new(), handle.times_given_up());
        Backend { store, handle, stream, thread_id, capabilities, status, scramble, pooled: None, given_up }
    }

    /// Sends a command of the proxy's own.
    ///
    /// # Errors
    /// As the socket's.
    pub async fn send(&mut self, command: u8, argument: &[u8]) -> io::Result<()> {
        let mut payload = Vec::with_capacity(argument.len() + 1);
        payload.push(command);
        payload.extend_from_slice(argument);
        self.stream.write_message(0, &payload).await?;
        Ok(())
    }

    /// Runs one statement and reads its result whole; a result set beyond the first is passed over.
    ///
    /// # Errors
    /// [`QueryError`]; after `Refused` the connection is still good.
    pub async fn query(&mut self, sql: &[u8]) -> Result<Rows, QueryError> {
        self.send(COM_QUERY, sql).await?;
        self.collect(Expect::Results).await
    }

    /// Runs one statement and reads its result, as far as that keeps within bounds; `None` where it does not: the connection is in
    /// the middle of an answer then, and of no more use.
    ///
    /// # Errors
    /// [`QueryError`]; after `Refused` the connection is still good.
    pub async fn query_within(&mut self, sql: &[u8], bounds: Bounds) -> Result<Option<Rows>, QueryError> {
        self.send(COM_QUERY, sql).await?;
        self.collect_within(Expect::Results, bounds).await
    }

    /// Runs one statement that answers without rows.
    ///
    /// # Errors
    /// [`QueryError`]; after `Refused` the connection is still good.
    pub async fn execute(&mut self, sql: &[u8]) -> Result<OkPacket, QueryError> {
        self.send(COM_QUERY, sql).await?;
        self.ok().await
    }

    /// Reads the answer to a command that was sent, and answers without rows.
    ///
    /// # Errors
    /// [`QueryError`]; after `Refused` the connection is still good.
    pub async fn ok(&mut self) -> Result<OkPacket, QueryError> {
        let (_, payload) = self.stream.read_message(packet::MAX_PAYLOAD).await?;
        match payload.first() {
            Some(0) => Ok(OkPacket::read(&payload)?),
            Some(0xFF) => Err(QueryError::Refused(ErrPacket::read(&payload)?)),
            _ => Err(Malformed("rows, where a statement has none").into()),
        }
    }

    /// Changes the database.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn init_db(&mut self, database: &[u8]) -> Result<(), QueryError> {
        self.send(COM_INIT_DB, database).await?;
        self.collect(Expect::Ok).await.map(|_| ())
    }

    /// Has the store prepare a statement, and forget it at once.
    ///
    /// # Errors
    /// [`QueryError`]; after `Refused` the connection is still good.
    pub async fn try_prepare(&mut self, sql: &[u8]) -> Result<(), QueryError> {
        let id = self.prepare(sql).await?;
        self.send(COM_STMT_CLOSE, &id.to_le_bytes()).await?;
        Ok(())
    }

    /// Has the store prepare a statement: its id.
    ///
    /// # Errors
    /// [`QueryError`]; after `Refused` the connection is still good.
    pub async fn prepare(&mut self, sql: &[u8]) -> Result<u32, QueryError> {
        self.send(COM_STMT_PREPARE, sql).await?;
        let mut reply = Reply::new(Expect::Prepare, self.capabilities);
        while !reply.is_done() {
            let (header, payload) = self.packet().await?;
            let role = reply.packet(header, payload.get(..payload.len().min(32)).unwrap_or_default())?;
            if role == Role::Error {
                return Err(QueryError::Refused(ErrPacket::read(&payload)?));
            }
        }
        Ok(reply.outcome().prepared.ok_or(Malformed("no PREPARE_OK"))?.id)
    }

    /// Executes a prepared statement that has one value and answers without rows; the value are bytes.
    ///
    /// # Errors
    /// [`QueryError`]; after `Refused` the connection is still good.
    pub async fn execute_prepared(&mut self, id: u32, value: &[u8]) -> Result<OkPacket, QueryError> {
        self.send_prepared(id, value).await?;
        self.ok().await
    }

    /// Sends what [`Backend::execute_prepared`] does.
    ///
    /// # Errors
    /// As the socket's.
    pub async fn send_prepared(&mut self, id: u32, value: &[u8]) -> io::Result<()> {
        let mut head = vec![COM_STMT_EXECUTE];
        head.extend(id.to_le_bytes());
        // no cursor, one iteration, no NULL; the types are with it
        head.extend([0, 1, 0, 0, 0, 0, 1, MYSQL_TYPE_BLOB, 0]);
        put_lenenc(&mut head, value.len() as u64);
        self.stream.write_large(0, &head, value).await?;
        Ok(())
    }

    /// Reads the response to a command that was sent.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn collect(&mut self, expect: Expect) -> Result<Rows, QueryError> {
        let beyond = Malformed("a result beyond 64 MiB for a query of the proxy's own");
        self.collect_within(expect, RESULT).await?.ok_or_else(|| beyond.into())
    }

    async fn collect_within(&mut self, expect: Expect, bounds: Bounds) -> Result<Option<Rows>, QueryError> {
        let mut reply = Reply::new(expect, self.capabilities);
        let mut out = Rows::default();
        let mut size = 0;
        while !reply.is_done() {
            let (header, payload) = self.packet().await?;
            size += payload.len();
            let cells = out.rows.len().saturating_mul(out.columns.len());
            if size > bounds.bytes || out.rows.len() > bounds.rows || cells > bounds.cells {
                return Ok(None);
            }
            let in_rows = reply.in_rows();
            let role = reply.packet(header, payload.get(..payload.len().min(32)).unwrap_or_default())?;
            if let Some(status) = reply.outcome().status {
                self.status = status;
            }
            match role {
                Role::Error => return Err(QueryError::Refused(ErrPacket::read(&payload)?)),
                Role::LocalInfile => return Err(Malformed("a file request for a query of the proxy's own").into()),
                Role::Part if expect == Expect::Results => out.take(&payload, in_rows, reply.in_rows())?,
                _ => {}
            }
        }
        Ok(Some(out))
    }

    /// Reads one packet.
    pub(crate) async fn packet(&mut self) -> io::Result<(Header, Vec<u8>)> {
        loop {
            if let Some((header, true)) = self.stream.peek() {
                let end = HEADER + header.len();
                let payload = self.stream.buffered().get(HEADER..end).unwrap_or_default().to_vec();
                self.stream.consume(end);
                return Ok((header, payload));
            }
            if let Some((header, false)) = self.stream.peek()
                && header.len() + HEADER > crate::net::buffer::SIZE
            {
                let (sequence, payload) = self.stream.read_message(packet::MAX_PAYLOAD).await?;
                return Ok((Header { length: header.length, sequence }, payload));
            }
            self.fill().await?;
        }
    }

    /// Reads what there is; a store that is given up meanwhile is not waited for.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        let Backend { stream, handle, given_up, .. } = self;
        tokio::select! {
            biased;
            read = stream.fill() => read,
            () = handle.when_given_up(*given_up) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.handle.leases.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A value in UTF-8 where character_set_results is one of the sets of two or four bytes per character.
fn narrow(value: &[u8], kind: u8, collation: u16) -> Vec<u8> {
    // numbers say that they are binary, and come in that set all the same
    if matches!(kind, 0x00..=0x05 | 0x08 | 0x09 | 0x0D | 0xF6) {
        return value.iter().copied().filter(|b| *b != 0).collect();
    }
    let pairs = |order: fn([u8; 2]) -> u16| {
        let units =
            value.chunks_exact(2).map(|c| order([c.first().copied().unwrap_or(0), c.last().copied().unwrap_or(0)]));
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>().into_bytes()
    };
    match collation {
        35 | 54 | 55 | 90 | 101..=124 | 128..=151 | 159 => pairs(u16::from_be_bytes),
        56 | 62 => pairs(u16::from_le_bytes),
        60 | 61 | 160..=183 => {
            let code = |c: &[u8]| c.iter().fold(0, |n: u32, b| n << 8 | u32::from(*b));
            let text: String =
                value.chunks_exact(4).map(|c| char::from_u32(code(c)).unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
            text.into_bytes()
        }
        _ => value.to_vec(),
    }
}

impl Rows {
    /// Takes a packet inside a result set: the column count, a column, the EOF after them, or a row.
    fn take(&mut self, payload: &[u8], was_in_rows: bool, in_rows: bool) -> Result<(), Malformed> {
        let mut r = Reader::new(payload);
        if was_in_rows {
            let mut row = Vec::with_capacity(self.columns.len());
            while !r.is_empty() {
                let column = self.columns.get(row.len());
                row.push(
                    r.lenenc_bytes_or_null()?
                        .map(|v| column.map_or_else(|| v.to_vec(), |c| narrow(v, c.kind, c.collation))),
                );
            }
            self.rows.push(row);
        } else if payload.len() > 9 && !(in_rows && payload.first() == Some(&0xFE)) {
            for _ in 0..4 {
                r.lenenc_bytes()?;
            }
            let name = r.lenenc_bytes()?.to_vec();
            r.lenenc_bytes()?;
            let fixed = r.rest();
            if fixed.first() == Some(&0x0C) {
                r.u8()?;
            } else {
                // MariaDB's extended type information
                r.lenenc_bytes()?;
                r.u8()?;
            }
            let collation = r.u16()?;
            r.u32()?;
            let kind = r.u8()?;
            self.columns.push(Column { name, kind, collation, flags: r.u16()? });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_become_utf8() {
        assert_eq!(narrow(b"\0O\0N", 0xFD, 35), b"ON");
        assert_eq!(narrow(b"O\0\xac\x20", 0xFD, 56), "O€".as_bytes());
        assert_eq!(narrow(b"\0\0\0O\0\x01\xf6\0", 0xFD, 60), "O😀".as_bytes());
        assert_eq!(narrow(b"\x001\x000", 0x03, 63), b"10");
        assert_eq!(narrow(b"\0O", 0xFC, 63), b"\0O");
    }
}
