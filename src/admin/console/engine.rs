//! opensrv-mysql behind a login that is not its own: the protocol of commands and results is its affair, who may come in is [`super::door`]'s.
//!
//! ```text
//! client ─► commands, one by one ─► Feed ─► opensrv-mysql ─► shim
//! client ◄─ answers ◄─ pipe ◄──────────────┘
//! ```
//!
//! It is played a greeting, a login and a prepared statement of its own, which nobody sees. It believes what a client sends: so what
//! reaches it is well-formed. Commands that it would answer with an OK without having done anything are put as statements that say
//! the same, or are refused; so are those that are too long, that cannot be read or that are no text. Executes: [`super::prepared`].
//! It gets one packet at a time: 0.7.0 frees the buffer in which a packet stands where more than that packet is in it.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use opensrv_mysql::AsyncMysqlIntermediary;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, split};
use tokio::sync::mpsc;

use super::expression::Refusal;
use super::prepared::{Executes, STAND_IN, malformed, statement, too_long};
use super::shim::Shim;
use crate::auth::NATIVE;
use crate::net::PacketStream;
use crate::wire::codec::put_lenenc_bytes;
use crate::wire::handshake::HandshakeResponse;
use crate::wire::packet::{self, HEADER, Header};
use crate::wire::response::OkPacket;
use crate::wire::{Capabilities, Status};

/// Bytes of answers that wait for the client.
const PIPE: usize = 64 << 10;
/// The longest command, bytes.
pub(super) const MAX_COMMAND: usize = 4 << 20;
/// A command in more packets than this (1 GiB) ends its connection.
const MOST_PACKETS: u8 = 64;
/// How a statement begins that we ask of ourselves; one of a client that begins so is refused.
const OWN: char = '\0';
/// COM_STATISTICS.
const STATISTICS: &str = "\0statistics";
/// What [`STAND_IN`] was prepared as.
const STANDS_IN: &str = "\0stands in";

/// Serves a client that has logged in, until it leaves.
///
/// # Errors
/// As the client's connection's, or where it breaks the protocol.
pub(super) async fn run(mut client: PacketStream, capabilities: Capabilities, shim: Shim) -> io::Result<()> {
    let (stream, begun) = client.take_stream();
    let (from_client, mut to_client) = split(stream);
    let (engine, mut answers) = tokio::io::duplex(PIPE);
    let (feed, packets) = mpsc::channel(2);
    let read = Feed { packets, packet: Vec::new(), given: 0 };
    let stands_in = framed(0, &[&[0x16], STANDS_IN.as_bytes()].concat());
    for packet in [login(capabilities), stands_in] {
        // (both have room)
        let _ = feed.send(packet).await;
    }
    // a greeting and the end of a login; a statement and its parameter, and what ends such a list
    let unseen = if capabilities.contains(Capabilities::DEPRECATE_EOF) { 4 } else { 5 };
    let serve = AsyncMysqlIntermediary::<Shim, Feed, DuplexStream>::run_on(shim, read, engine);
    let commands = async move {
        let mut from_client = io::Cursor::new(begun).chain(from_client);
        let mut executes = Executes::default();
        while let Some((sequence, step)) = command(&mut from_client, &mut executes).await? {
            let (payload, is_last) = match step {
                Step::Put(payload) => (payload, false),
                Step::Last(payload) => (payload, true),
                Step::Unanswered => continue,
            };
            if feed.send(framed(sequence, &payload)).await.is_err() || is_last {
                break;
            }
        }
        // what was asked is answered still
        drop(feed);
        std::future::pending::<io::Result<()>>().await
    };
    tokio::select! {
        (served, passed) = async { tokio::join!(serve, pass(&mut answers, &mut to_client, unseen)) } => served.and(passed),
        broken = commands => broken,
    }
}

/// What opensrv-mysql reads: no read goes beyond a packet.
struct Feed {
    packets: mpsc::Receiver<Vec<u8>>,
    packet: Vec<u8>,
    given: usize,
}

impl AsyncRead for Feed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.given == this.packet.len() {
            let Some(packet) = ready!(this.packets.poll_recv(cx)) else { return Poll::Ready(Ok(())) };
            (this.packet, this.given) = (packet, 0);
        }
        let rest = this.packet.get(this.given..).unwrap_or_default();
        let part = rest.get(..buf.remaining()).unwrap_or(rest);
        buf.put_slice(part);
        this.given += part.len();
        Poll::Ready(Ok(()))
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

/// What becomes of a client's command.
enum Step {
    /// opensrv-mysql is given this.
    Put(Vec<u8>),
    /// The same, and what comes behind it is not read.
    Last(Vec<u8>),
    /// Nothing is answered.
    Unanswered,
}

fn framed(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(HEADER + payload.len());
    packet::put(&mut framed, sequence, payload);
    framed
}

/// The next command, and the number of its last packet; none where the client has left.
async fn command(client: &mut (impl AsyncRead + Unpin), executes: &mut Executes) -> io::Result<Option<(u8, Step)>> {
    let Some(header) = head(client).await? else { return Ok(None) };
    let mut payload = vec![0; header.len().min(MAX_COMMAND)];
    client.read_exact(&mut payload).await?;
    if header.sequence != 0 {
        return Ok(Some((0, Step::Last(refused(&Refusal::new(1156, "Got packets out of order"))))));
    }
    skip(client, header.len() - payload.len()).await?;
    let mut last = header;
    while last.continues() && last.sequence < MOST_PACKETS {
        let Some(next) = head(client).await? else { return Ok(None) };
        skip(client, next.len()).await?;
        last = Header { sequence: last.sequence + 1, ..next };
    }
    let step = match (last.continues(), header.len() > MAX_COMMAND) {
        (true, _) => Step::Last(refused(&too_long())),
        (_, true) => Step::Put(refused(&too_long())),
        _ => step(payload, executes),
    };
    Ok(Some((last.sequence, step)))
}

async fn head(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Header>> {
    let mut head = [0; HEADER];
    match client.read_exact(&mut head).await {
        Ok(_) => Ok(Header::read(&head)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

async fn skip(client: &mut (impl AsyncRead + Unpin), bytes: usize) -> io::Result<u64> {
    tokio::io::copy(&mut client.take(bytes as u64), &mut tokio::io::sink()).await
}

fn query(sql: &str) -> Vec<u8> {
    [&[3], sql.as_bytes()].concat()
}

fn refused(refusal: &Refusal) -> Vec<u8> {
    query(&format!("{OWN}{} {}", refusal.code, refusal.text))
}

/// What we ask of ourselves.
pub(super) enum Own {
    /// This is the answer.
    Refused(Refusal),
    /// COM_STATISTICS.
    Statistics,
    /// The statement that stands for others is prepared.
    StandIn,
}

/// What a statement of our own is for; none where it is a client's.
pub(super) fn own(sql: &str) -> Option<Own> {
    let own = sql.strip_prefix(OWN)?;
    Some(match sql {
        STATISTICS => Own::Statistics,
        STANDS_IN => Own::StandIn,
        _ => Own::Refused(
            own.split_once(' ')
                .and_then(|(code, text)| Some(Refusal::new(code.parse().ok()?, text)))
                .unwrap_or_else(malformed),
        ),
    })
}

/// What an answer of our own begins with, behind OWN: a text that is no packet of rows, or what an OK says for people.
const TEXT: u8 = b'T';
const DONE: u8 = b'D';

/// An answer that is a text and nothing else: opensrv-mysql has no such one, so it travels as an error.
pub(super) fn put_text(text: &str) -> Refusal {
    Refusal::new(1105, format!("{OWN}{}{text}", char::from(TEXT)))
}

/// An OK with a text for people, in the same way.
pub(super) fn put_done(text: &str) -> Refusal {
    Refusal::new(1105, format!("{OWN}{}{text}", char::from(DONE)))
}

/// The payload that one of these stands for; none for every other.
fn own_answer(payload: &[u8]) -> Option<Cow<'_, [u8]>> {
    // (the code, a mark, the SQLSTATE)
    let (&[0xFF, ..], message) = payload.split_first_chunk::<9>()? else { return None };
    match message {
        [0, TEXT, text @ ..] => Some(text.into()),
        [0, DONE, text @ ..] => {
            let mut ok = OkPacket { status: Status::AUTOCOMMIT, ..OkPacket::default() }.write();
            if !text.is_empty() {
                put_lenenc_bytes(&mut ok, text);
            }
            Some(ok.into())
        }
        _ => None,
    }
}

/// A command as opensrv-mysql is given it.
fn step(payload: Vec<u8>, executes: &mut Executes) -> Step {
    let not = |refusal: &Refusal| Step::Put(refused(refusal));
    let unknown = || Refusal::new(1047, "Unknown command");
    match payload.as_slice() {
        // COM_INIT_DB, QUERY, STMT_PREPARE
        [0x02 | 0x03 | 0x16, text @ ..] => match std::str::from_utf8(text) {
            Ok(text) if text.starts_with(OWN) => not(&Refusal::new(1064, "You have an error in your SQL syntax")),
            Ok(_) => Step::Put(payload),
            Err(_) => not(&Refusal::new(1300, "Invalid utf8mb4 character string: everything here is utf8mb4")),
        },
        // COM_STATISTICS, PROCESS_INFO, PROCESS_KILL
        [0x09, ..] => Step::Put(query(STATISTICS)),
        [0x0A, ..] => Step::Put(query("SHOW PROCESSLIST")),
        [0x0C, id @ ..] => match id.first_chunk::<4>() {
            Some(id) => Step::Put(query(&format!("KILL {}", u32::from_le_bytes(*id)))),
            None => not(&malformed()),
        },
        // COM_RESET_CONNECTION: what was said to go with each change does not any more
        [0x1F] => Step::Put(query("RESET CONNECTION")),
        [0x17, ..] => match executes.execute(&payload) {
            Ok(put) => Step::Put(put),
            Err(refusal) => not(&refusal),
        },
        [0x18, argument @ ..] => match executes.long_data(argument) {
            Ok(()) => Step::Unanswered,
            Err(refusal) => Step::Last(refused(&refusal)),
        },
        // COM_STMT_CLOSE (which is not answered), COM_STMT_RESET
        [command @ (0x19 | 0x1A), ..] => match statement(&payload) {
            Some(id) => {
                executes.forget(id);
                if *command == 0x19 && id == STAND_IN { Step::Unanswered } else { Step::Put(payload) }
            }
            None => not(&malformed()),
        },
        // COM_QUIT, FIELD_LIST, PING, SET_OPTION
        [0x01 | 0x04 | 0x0E | 0x1B, ..] => Step::Put(payload),
        // COM_CHANGE_USER, COM_SHUTDOWN and whatever else there is
        _ => not(&unknown()),
    }
}

/// Passes opensrv-mysql's packets on, but for the first ones.
async fn pass(
    answers: &mut (impl AsyncRead + Unpin),
    client: &mut (impl AsyncWrite + Unpin),
    mut unseen: u8,
) -> io::Result<()> {
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
            let (length, sequence) = (framed.len(), header.sequence);
            if let Some(answer) = framed.get(HEADER..).and_then(own_answer) {
                let mut instead = Vec::with_capacity(HEADER + answer.len());
                packet::put(&mut instead, sequence, &answer);
                waiting.splice(whole..whole + length, instead.iter().copied());
                whole += instead.len();
                continue;
            }
            say_autocommit(framed);
            whole += length;
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
