//! opensrv-mysql behind a login that is not its own: the protocol of commands and results is its affair, who may come in is [`super::door`]'s.
//!
//! ```text
//! client ─► commands, one by one ─► pipe ─► opensrv-mysql ─► shim
//! client ◄─ answers ◄─ pipe ◄──────────────┘
//! ```
//!
//! It is played a greeting and a login of its own, which nobody sees. Commands that it would answer with an OK without having done
//! anything are put as statements that say the same, or are refused; so are those that are too long.

use std::borrow::Cow;
use std::io;

use opensrv_mysql::AsyncMysqlIntermediary;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split};

use super::expression::Refusal;
use super::shim::Shim;
use crate::auth::NATIVE;
use crate::net::PacketStream;
use crate::wire::handshake::HandshakeResponse;
use crate::wire::packet::{self, HEADER, Header};
use crate::wire::{Capabilities, Status};

/// Bytes between a client and opensrv-mysql, either way.
const PIPE: usize = 64 << 10;
/// The longest command, bytes.
pub(super) const MAX_COMMAND: usize = 4 << 20;
/// What a refused command is put as: nobody types it.
const REFUSED: char = '\0';

/// Serves a client that has logged in, until it leaves.
///
/// # Errors
/// As the client's connection's, or where it breaks the protocol.
pub(super) async fn run(mut client: PacketStream, capabilities: Capabilities, shim: Shim) -> io::Result<()> {
    let (stream, begun) = client.take_stream();
    let (from_client, mut to_client) = split(stream);
    let (engine, ours) = tokio::io::duplex(PIPE);
    let (mut answers, mut pipe) = split(ours);
    let (read, write) = split(engine);
    pipe.write_all(&login(capabilities)).await?;
    let serve =
        AsyncMysqlIntermediary::<Shim, ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>::run_on(shim, read, write);
    let commands = async {
        let mut from_client = io::Cursor::new(begun).chain(from_client);
        while let Some(command) = command(&mut from_client).await? {
            pipe.write_all(&command).await?;
        }
        // what was asked is answered still
        pipe.shutdown().await?;
        std::future::pending::<io::Result<()>>().await
    };
    tokio::select! {
        (served, passed) = async { tokio::join!(serve, pass(&mut answers, &mut to_client)) } => served.and(passed),
        broken = commands => broken,
    }
}

/// The login that opensrv-mysql sees.
fn login(capabilities: Capabilities) -> Vec<u8> {
    let own = Capabilities::CONNECT_WITH_DB | Capabilities::CONNECT_ATTRS | Capabilities::COMPRESS | Capabilities::SSL;
    let response = HandshakeResponse {
        capabilities: capabilities - own,
        max_packet: 1 << 24,
        collation: 45,
        user: b"console".to_vec(),
        auth: vec![1],
        database: None,
        plugin: Some(NATIVE.to_vec()),
        attributes: Vec::new(),
    };
    let mut out = Vec::new();
    packet::put(&mut out, 1, &response.write());
    out
}

/// The next command, as opensrv-mysql is given it, framed; none where the client has left.
async fn command(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; HEADER];
    match client.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let Some(header) = Header::read(&head) else { return Ok(None) };
    let mut payload = vec![0; header.len().min(MAX_COMMAND)];
    client.read_exact(&mut payload).await?;
    let mut framed = Vec::with_capacity(HEADER + payload.len());
    if header.continues() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a command of more than 16 MiB"));
    }
    if header.len() > MAX_COMMAND {
        let over = (header.len() - MAX_COMMAND) as u64;
        tokio::io::copy(&mut client.take(over), &mut tokio::io::sink()).await?;
        payload = refused(1153, "Got a packet bigger than 'max_allowed_packet' bytes");
    }
    packet::put(&mut framed, header.sequence, &as_statement(&payload));
    Ok(Some(framed))
}

fn query(sql: &str) -> Vec<u8> {
    [&[3], sql.as_bytes()].concat()
}

fn refused(code: u16, text: &str) -> Vec<u8> {
    query(&format!("{REFUSED}{code} {text}"))
}

/// The refusal that a statement stands for.
pub(super) fn refusal(sql: &str) -> Option<Refusal> {
    let (code, text) = sql.strip_prefix(REFUSED)?.split_once(' ')?;
    Some(Refusal::new(code.parse().ok()?, text))
}

/// A command as opensrv-mysql knows it.
fn as_statement(payload: &[u8]) -> Cow<'_, [u8]> {
    match payload {
        // COM_PROCESS_INFO, COM_PROCESS_KILL
        [0x0A, ..] => query("SHOW PROCESSLIST").into(),
        [0x0C, id @ ..] => match id.first_chunk::<4>() {
            Some(id) => query(&format!("KILL {}", u32::from_le_bytes(*id))).into(),
            None => refused(1047, "Unknown command").into(),
        },
        // COM_RESET_CONNECTION: what was said to go with each change does not any more
        [0x1F] => query("RESET CONNECTION").into(),
        // COM_QUIT, INIT_DB, QUERY, FIELD_LIST, PING, STMT_PREPARE … STMT_RESET, SET_OPTION
        [0x01..=0x04 | 0x0E | 0x16..=0x1B, ..] => payload.into(),
        // COM_CHANGE_USER, COM_SHUTDOWN, COM_STATISTICS and whatever else there is
        _ => refused(1047, "Unknown command").into(),
    }
}

/// Passes opensrv-mysql's packets on, but for its greeting and the end of its login.
async fn pass(answers: &mut (impl AsyncRead + Unpin), client: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut unseen = 2;
    let mut waiting = Vec::with_capacity(PIPE);
    while answers.read_buf(&mut waiting).await? > 0 {
        let mut whole = 0;
        while let Some(rest) = waiting.get_mut(whole..)
            && let Some(header) = Header::read(rest)
            && let Some(framed) = rest.get_mut(..HEADER + header.len())
        {
            if unseen > 0 {
                unseen -= 1;
                let length = framed.len();
                waiting.drain(whole..whole + length);
                continue;
            }
            say_autocommit(framed);
            whole += framed.len();
        }
        client.write_all(waiting.get(..whole).unwrap_or_default()).await?;
        client.flush().await?;
        waiting.drain(..whole);
    }
    client.shutdown().await
}

/// opensrv-mysql says nothing of autocommit in the packet behind columns and rows, and drivers believe it.
fn say_autocommit(framed: &mut [u8]) {
    const LONGEST: usize = 9;
    let is_short = framed.len() < HEADER + LONGEST;
    if let [_, _, _, _, 0xFE, 0, 0, low, ..] = framed
        && is_short
    {
        let [autocommit, ..] = Status::AUTOCOMMIT.bits().to_le_bytes();
        *low |= autocommit;
    }
}
