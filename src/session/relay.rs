//! Passes a response from a store to the client, byte for byte, and learns from it only what [`Reply`] looks at.
//!
//! Back-pressure: what was read is written on before more is read, so a slow client holds back its store. While the store
//! works, the client is watched: one that goes away ends the session at once.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use super::control_flow::Fatal;
use super::leg::Leg;
use super::sealed::{Held, Missing, Sent, is_missing, is_seal};
use crate::net::PacketStream;
use crate::net::buffer::{Buffers, SIZE};
use crate::wire::packet::{self, HEADER, Header};
use crate::wire::reply::{Event, Expect, Outcome, Reply, Role};
use crate::wire::{Capabilities, ErrPacket, Status, tracking};

/// Reads of a response without another command on the core, after which the pace changes.
const UNDISTURBED: u32 = 8;

impl Leg {
    pub(crate) fn lost(&mut self, error: io::Error) -> Fatal {
        self.broken = true;
        Fatal::Store { store: self.name.clone(), error }
    }

    pub(crate) fn nonsense(&mut self, error: crate::wire::codec::Malformed) -> Fatal {
        self.broken = true;
        Fatal::StoreProtocol { store: self.name.clone(), error }
    }

    /// Takes over what a response said of the connection.
    fn learn(&mut self, outcome: &Outcome) {
        self.busy = false;
        if let Some(status) = outcome.status {
            self.backend.status = status;
        }
        // a deadlock's victim has no transaction any more, and an ERR packet carries no flags
        if outcome.error.is_some_and(rolls_back) {
            self.backend.status.remove(Status::IN_TRANS);
        }
    }
}

/// Errors after which the whole transaction is gone: deadlock, changed row under snapshot isolation, XA deadlock.
pub(crate) fn rolls_back(code: u16) -> bool {
    matches!(code, 1213 | 1020 | 1614)
}

/// Relays the whole response to a command that was sent on `leg`.
pub(crate) async fn relay(client: &mut PacketStream, leg: &mut Leg, expect: Expect) -> Result<Outcome, Fatal> {
    let mut reply = Reply::new(expect, leg.backend.capabilities);
    run(client, leg, &mut reply).await?;
    Ok(*reply.outcome())
}

/// Relays up to the end, or up to a held error.
pub(crate) async fn run(client: &mut PacketStream, leg: &mut Leg, reply: &mut Reply) -> Result<Event, Fatal> {
    fill_watching(client, leg).await?;
    finish(client, leg, reply).await
}

/// The same, beginning with bytes that were read already.
pub(crate) async fn finish(client: &mut PacketStream, leg: &mut Leg, reply: &mut Reply) -> Result<Event, Fatal> {
    let mut pace = Pace::default();
    loop {
        let came = leg.backend.stream.buffered().len();
        loop {
            let step = reply.feed(leg.backend.stream.buffered()).map_err(|e| leg.nonsense(e))?;
            if step.consumed > 0 {
                leg.answered = true;
                reply.passed(step.consumed);
                leg.backend.stream.pass(client, step.consumed).await.map_err(Fatal::client)?;
            }
            match step.event {
                Event::More => break,
                Event::LocalInfile => {
                    local_infile(client, leg, 0).await?;
                }
                // boxed: it is rare, and its state must not make that of every relay larger
                Event::Changed(length) => {
                    reply.passed(length);
                    Box::pin(pass_changed(client, leg, length)).await?;
                }
                Event::Done | Event::Error => {
                    leg.learn(reply.outcome());
                    return Ok(step.event);
                }
            }
        }
        pace.keep(client.buffers(), came);
        fill_watching(client, leg).await?;
    }
}

/// How a long result is read. A reader that is faster than its store waits for each of its writes (MariaDB: 16 KiB), and a CPU that
/// both share changes hands each time. Left to the store for a moment first, it changes hands a few times only, and the result
/// costs the proxy a fifth less. Not where other clients of the core send commands meanwhile: they would wait as well. With a CPU
/// of its own, this is one system call that comes back at once.
#[derive(Default)]
struct Pace {
    /// Reads since others sent a command.
    reads: u32,
    /// Commands of the core that came before.
    commands: u64,
}

impl Pace {
    /// Before the next read; `came` bytes came by the last.
    fn keep(&mut self, core: &Buffers, came: usize) {
        if self.commands != core.commands() {
            *self = Pace { reads: 0, commands: core.commands() };
        }
        self.reads += 1;
        if self.reads > UNDISTURBED && came < SIZE / 2 {
            rustix::thread::sched_yield();
        }
    }
}

/// Passes on an OK packet that reports changes, as the client is to see it.
async fn pass_changed(client: &mut PacketStream, leg: &mut Leg, length: usize) -> Result<(), Fatal> {
    let (sequence, payload) = changed(client, leg, length).await?;
    client.write_message(sequence, &payload).await.map_err(Fatal::client)?;
    Ok(())
}

/// Takes the OK packet that stands next, of `length` bytes: what it reports is kept on the leg; its sequence number, and its
/// payload as the client is to see it.
async fn changed(client: &mut PacketStream, leg: &mut Leg, length: usize) -> Result<(u8, Vec<u8>), Fatal> {
    if length > tracking::LIMIT {
        return Err(leg.nonsense(crate::wire::codec::Malformed("an OK packet of more than 1 MiB")));
    }
    let mut packet = Vec::with_capacity(length);
    while packet.len() < length {
        let buffered = leg.backend.stream.buffered();
        let part = buffered.get(..buffered.len().min(length - packet.len())).unwrap_or_default();
        let n = part.len();
        packet.extend_from_slice(part);
        leg.backend.stream.consume(n);
        if packet.len() < length {
            fill_watching(client, leg).await?;
        }
    }
    let sequence = packet.get(3).copied().unwrap_or(0);
    let payload = packet.split_off(HEADER);
    let changes = tracking::changes(&payload).map_err(|e| leg.nonsense(e))?;
    leg.changes.extend(changes);
    if !leg.untracked {
        return Ok((sequence, payload));
    }
    let payload = tracking::without_changes(&payload).map_err(|e| leg.nonsense(e))?;
    Ok((sequence, payload))
}

/// Reads from the store, unless something is left of an earlier read that was not looked at; a client that closes ends it.
pub(crate) async fn fill_watching(client: &mut PacketStream, leg: &mut Leg) -> Result<(), Fatal> {
    let crate::backend::Backend { stream, handle, given_up, .. } = &mut leg.backend;
    let read = poll_fn(|cx| {
        if let Poll::Ready(read) = stream.poll_fill(cx) {
            return Poll::Ready(Ok(read));
        }
        // what the client sends ahead stays in its buffer; only its going away matters here
        if client.buffered().is_empty()
            && let Poll::Ready(read) = client.poll_fill(cx)
        {
            match read {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        if handle.times_given_up() != *given_up {
            return Poll::Ready(Ok(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        Poll::Pending
    })
    .await;
    match read {
        Ok(Ok(0)) => Err(leg.lost(io::ErrorKind::UnexpectedEof.into())),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(leg.lost(e)),
        Err(e) => Err(Fatal::Client(e)),
    }
}

/// Passes the client's file on: packets up to an empty one, each renumbered by `shift`; the number of the last, as the client has
/// it.
async fn local_infile(client: &mut PacketStream, leg: &mut Leg, shift: u8) -> Result<u8, Fatal> {
    loop {
        let Some((header, _)) = client.peek() else {
            client.fill().await.map_err(Fatal::client)?;
            continue;
        };
        if let Some(number) = client.buffered_mut().get_mut(HEADER - 1) {
            *number = number.wrapping_add(shift);
        }
        let mut left = HEADER + header.len();
        while left > 0 {
            if client.buffered().is_empty() {
                client.fill().await.map_err(Fatal::client)?;
            }
            let n = left.min(client.buffered().len());
            client.pass(&mut leg.backend.stream, n).await.map_err(|e| leg.lost(e))?;
            left -= n;
        }
        if header.is_empty() {
            return Ok(header.sequence);
        }
    }
}

/// Reads a response and keeps it from the client; the error, if it ended with one, is returned.
pub(crate) async fn swallow(leg: &mut Leg, expect: Expect) -> Result<Result<(), crate::wire::ErrPacket>, Fatal> {
    use crate::backend::connection::QueryError;
    let answer = leg.backend.collect(expect).await;
    leg.busy = false;
    match answer {
        Ok(_) => Ok(Ok(())),
        Err(QueryError::Refused(e)) => {
            if rolls_back(e.code) {
                leg.backend.status.remove(Status::IN_TRANS);
            }
            Ok(Err(e))
        }
        Err(QueryError::Io(e)) => Err(leg.lost(e)),
        Err(QueryError::Malformed(e)) => Err(leg.nonsense(e)),
    }
}

/// A response that does not reach the client as it stands.
pub(crate) struct Part<'a> {
    /// Its shape.
    pub(crate) expect: Expect,
    /// It is marked as followed by another.
    pub(crate) more: bool,
    /// Column definitions, framed, for a result that leaves its own out.
    pub(crate) columns: &'a [u8],
    /// Which errors are kept from the client.
    pub(crate) held: Held,
}

/// Relays one response as a part of a longer one, or with columns put in: renumbered from `sequence`. Its last packet goes into
/// `held` rather than to the client, where that is given: without it nothing is answered.
pub(crate) async fn relay_part(
    client: &mut PacketStream,
    leg: &mut Leg,
    sequence: &mut u8,
    part: &Part<'_>,
    mut held: Option<&mut Vec<u8>>,
) -> Result<Sent, Fatal> {
    let more = part.more;
    let mut reply = Reply::new(part.expect, leg.backend.capabilities);
    while !reply.is_done() {
        let Some((header, prefix_there)) = peek_prefix(&leg.backend.stream) else {
            fill_watching(client, leg).await?;
            continue;
        };
        if !prefix_there {
            fill_watching(client, leg).await?;
            continue;
        }
        let prefix: Vec<u8> =
            leg.backend.stream.buffered().get(HEADER..HEADER + header.len().min(32)).unwrap_or_default().to_vec();
        let columns_end = reply.at_columns_end();
        let role = reply.packet(header, &prefix).map_err(|e| leg.nonsense(e))?;
        reply.passed(HEADER + header.len());
        let mut held = held.as_deref_mut().filter(|_| matches!(role, Role::Last | Role::Error));
        if reply.reports_changes() {
            let more = more && role == Role::Last;
            changed_part(client, leg, (&mut *sequence, more), HEADER + header.len(), held).await?;
            continue;
        }
        if reply.leaves_out_columns() && !part.columns.is_empty() {
            leg.backend.stream.consume(HEADER + header.len());
            let whole = with_columns(&prefix, part.columns, sequence);
            leg.answered = true;
            client.write(&whole).await.map_err(Fatal::client)?;
            continue;
        }
        if role == Role::Error
            && let Ok(error) = ErrPacket::read(&prefix)
        {
            let seal = part.held.seals && is_seal(&error);
            if seal || (part.held.missing && !leg.answered && is_missing(&error)) {
                let message = leg.backend.stream.read_message(packet::MAX_PAYLOAD).await;
                let (_, payload) = message.map_err(|e| leg.lost(e))?;
                leg.learn(reply.outcome());
                let missing = Missing { sequence: *sequence, payload, outcome: *reply.outcome() };
                return Ok(if seal { Sent::Sealed(*sequence) } else { Sent::Missing(missing) });
            }
        }
        leg.answered |= held.is_none();
        let shift = header.sequence.wrapping_sub(*sequence);
        let flag = more && (role == Role::Last || columns_end);
        mark(leg.backend.stream.buffered_mut(), *sequence, flag, leg.backend.capabilities);
        *sequence = sequence.wrapping_add(1);
        let mut left = HEADER + header.len();
        while left > 0 {
            if leg.backend.stream.buffered().is_empty() {
                fill_watching(client, leg).await?;
            }
            let n = left.min(leg.backend.stream.buffered().len());
            match &mut held {
                Some(held) => {
                    held.extend_from_slice(leg.backend.stream.buffered().get(..n).unwrap_or_default());
                    leg.backend.stream.consume(n);
                }
                None => leg.backend.stream.pass(client, n).await.map_err(Fatal::client)?,
            }
            left -= n;
        }
        if role == Role::LocalInfile {
            *sequence = local_infile(client, leg, shift).await?.wrapping_add(1);
        }
        if role == Role::Error {
            break;
        }
    }
    leg.learn(reply.outcome());
    Ok(Sent::Answered(*reply.outcome()))
}

/// An OK packet that reports changes, as a part: of `length` bytes, marked where `more` follow.
async fn changed_part(
    client: &mut PacketStream,
    leg: &mut Leg,
    (sequence, more): (&mut u8, bool),
    length: usize,
    held: Option<&mut Vec<u8>>,
) -> Result<(), Fatal> {
    let (_, payload) = changed(client, leg, length).await?;
    let mut packet = Vec::with_capacity(HEADER + payload.len());
    packet::put(&mut packet, *sequence, &payload);
    mark(&mut packet, *sequence, more, leg.backend.capabilities);
    *sequence = sequence.wrapping_add(1);
    match held {
        Some(held) => held.extend_from_slice(&packet),
        None => {
            leg.answered = true;
            client.write(&packet).await.map_err(Fatal::client)?;
        }
    }
    Ok(())
}

/// The header at the start, and whether the part of the payload that [`Reply`] looks at is there.
fn peek_prefix(stream: &PacketStream) -> Option<(Header, bool)> {
    let (header, _) = stream.peek()?;
    Some((header, stream.buffered().len() >= HEADER + header.len().min(32)))
}

/// A column count that was sent without columns, with them.
fn with_columns(count: &[u8], columns: &[u8], sequence: &mut u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + count.len() + columns.len());
    let mut next = || std::mem::replace(sequence, sequence.wrapping_add(1));
    packet::put(&mut out, next(), count);
    if let Some(follow) = out.last_mut() {
        *follow = 1;
    }
    let mut rest = columns;
    while let Some((one, after)) = Header::read(rest).and_then(|h| rest.split_at_checked(HEADER + h.len())) {
        packet::put(&mut out, next(), one.get(HEADER..).unwrap_or_default());
        rest = after;
    }
    out
}

/// Renumbers the packet at the start of `bytes`, and sets MORE_RESULTS in it if it ends a result that another follows.
fn mark(bytes: &mut [u8], sequence: u8, more: bool, caps: Capabilities) {
    if let Some(s) = bytes.get_mut(3) {
        *s = sequence;
    }
    if !more {
        return;
    }
    let at = match bytes.get(HEADER) {
        Some(0xFE) if !caps.contains(Capabilities::DEPRECATE_EOF) => Some(HEADER + 3),
        Some(0x00 | 0xFE) => ok_status_at(bytes.get(HEADER..).unwrap_or_default()).map(|n| HEADER + n),
        _ => None,
    };
    if let Some(flags) = at.and_then(|at| bytes.get_mut(at)) {
        *flags |= Status::MORE_RESULTS.bits().to_le_bytes().first().copied().unwrap_or(0);
    }
}

/// Where the status flags of an OK packet stand.
fn ok_status_at(payload: &[u8]) -> Option<usize> {
    let mut r = crate::wire::codec::Reader::new(payload);
    r.u8().ok()?;
    r.lenenc().ok()?;
    r.lenenc().ok()?;
    Some(payload.len() - r.rest().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::OkPacket;

    #[test]
    fn a_part_is_renumbered_and_marked() {
        let ok = OkPacket { affected_rows: 1000, last_insert_id: 70_000, status: Status::AUTOCOMMIT, warnings: 1 };
        let mut bytes = Vec::new();
        ok.put(&mut bytes, 1);
        mark(&mut bytes, 9, true, Capabilities::empty());
        assert_eq!(bytes[3], 9);
        let marked = OkPacket::read(&bytes[HEADER..]).unwrap();
        assert_eq!(marked, OkPacket { status: Status::AUTOCOMMIT | Status::MORE_RESULTS, ..ok });
        let mut eof = vec![5, 0, 0, 4, 0xFE, 0, 0, 2, 0];
        mark(&mut eof, 5, true, Capabilities::empty());
        assert_eq!(eof, [5, 0, 0, 5, 0xFE, 0, 0, 0x0A, 0]);
    }

    #[test]
    fn columns_that_were_left_out_stand_behind_their_count() {
        let columns = [2, 0, 0, 4, b'a', b'b', 1, 0, 0, 5, b'c'];
        let mut sequence = 1;
        let whole = with_columns(&[2, 0], &columns, &mut sequence);
        assert_eq!(whole, [2, 0, 0, 1, 2, 1, 2, 0, 0, 2, b'a', b'b', 1, 0, 0, 3, b'c']);
        assert_eq!(sequence, 4);
    }
}
