//! The compressed protocol: zlib frames below the packets, on a client's leg and on that session's leg to its home store.
//!
//! mysqlnd (PHP) compresses whenever it is told to, whatever the server offered. The home store's leg compresses as well, so that the
//! store's own `Compression` status tells the client the truth. Source: MySQL "Compression": 3 bytes compressed length, 1 byte sequence
//! number, 3 bytes length before compression (0: not compressed). A command starts at frame 0 (MariaDB 10.11 drops a connection that
//! goes on counting); an answer goes on from the command's frames.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;
use crate::wire::packet::{HEADER as PACKET_HEADER, MAX_PAYLOAD};

/// Bytes of a frame's header.
const HEADER: usize = 7;
/// Shorter payloads are sent as they are, as MySQL does.
const WORTH: usize = 50;
/// Payload bytes of one frame that is written.
const CHUNK: usize = 64 * 1024;

/// Who the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A client: what is written answers it.
    Client,
    /// A store: what is written are commands.
    Store,
}

/// Where the packets stand in what is written to a store: the first packet of a command has sequence number 0.
#[derive(Debug, Default)]
struct Packets {
    /// Bytes of the current packet's payload still to come.
    left: usize,
    /// The current packet fills its length: the next one goes on with it, and libmariadb numbers that one anew.
    continues: bool,
    /// Its sequence number, unless the store has said something since: after 255 comes 0, in the middle of a file's packets.
    last: Option<u8>,
    /// The start of a header that a write cut in two.
    cut: Vec<u8>,
}

/// A stream whose bytes travel in compressed frames.
#[derive(Debug)]
pub struct Compressed {
    inner: Stream,
    peer: Peer,
    packets: Packets,
    /// Bytes read that are no whole frame yet.
    raw: Vec<u8>,
    /// Bytes of whole frames that were not taken yet.
    plain: Vec<u8>,
    taken: usize,
    /// Frames that were not written yet.
    out: Vec<u8>,
    written: usize,
    sequence: u8,
}

fn split3(n: usize) -> [u8; 3] {
    let [a, b, c, ..] = n.to_le_bytes();
    [a, b, c]
}

impl Compressed {
    /// Wraps `inner`; `read` was read from it already.
    #[must_use]
    pub fn new(inner: Stream, peer: Peer, read: Vec<u8>) -> Compressed {
        Compressed {
            inner,
            peer,
            packets: Packets::default(),
            raw: read,
            plain: Vec::new(),
            taken: 0,
            out: Vec::new(),
            written: 0,
            sequence: 0,
        }
    }

    /// What carries the frames.
    #[must_use]
    pub fn inner(&self) -> &Stream {
        &self.inner
    }

    /// Opens the frame at the start of `raw`, if it is whole.
    fn open(&mut self) -> io::Result<bool> {
        let Some([l0, l1, l2, sequence, p0, p1, p2]) = self.raw.first_chunk::<HEADER>().copied() else {
            return Ok(false);
        };
        let length = u32::from_le_bytes([l0, l1, l2, 0]) as usize;
        let before = u32::from_le_bytes([p0, p1, p2, 0]) as usize;
        let Some(body) = self.raw.get(HEADER..HEADER + length) else { return Ok(false) };
        if before == 0 {
            self.plain.extend_from_slice(body);
        } else {
            let start = self.plain.len();
            ZlibDecoder::new(body).take(before as u64 + 1).read_to_end(&mut self.plain)?;
            if self.plain.len() - start != before {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a compressed frame of another length than it says",
                ));
            }
        }
        self.sequence = sequence.wrapping_add(1);
        self.raw.drain(..HEADER + length);
        Ok(true)
    }

    fn frame(&mut self, payload: &[u8]) -> io::Result<()> {
        let packed = if payload.len() < WORTH {
            None
        } else {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(payload)?;
            Some(encoder.finish()?).filter(|p| p.len() < payload.len())
        };
        let (body, before) = match &packed {
            Some(p) => (p.as_slice(), payload.len()),
            None => (payload, 0),
        };
        self.out.extend(split3(body.len()));
        self.out.push(self.sequence);
        self.out.extend(split3(before));
        self.out.extend_from_slice(body);
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }

    /// Frames for the packets in `payload`: a command begins a frame, and the count of frames.
    fn frames(&mut self, payload: &[u8]) -> io::Result<()> {
        if self.peer == Peer::Client {
            return self.frame(payload);
        }
        let bytes = [std::mem::take(&mut self.packets.cut).as_slice(), payload].concat();
        let mut rest = bytes.as_slice();
        let mut at = self.packets.left.min(rest.len());
        self.packets.left -= at;
        while let Some(&[l0, l1, l2, sequence]) = rest.get(at..).and_then(<[u8]>::first_chunk) {
            let payload = u32::from_le_bytes([l0, l1, l2, 0]) as usize;
            if sequence == 0 && !self.packets.continues && self.packets.last != Some(255) {
                let (before, command) = rest.split_at(at);
                if !before.is_empty() {
                    self.frame(before)?;
                }
                (rest, at) = (command, 0);
                self.sequence = 0;
            }
            self.packets.last = Some(sequence);
            self.packets.continues = payload == MAX_PAYLOAD;
            let length = PACKET_HEADER + payload;
            let here = length.min(rest.len() - at);
            self.packets.left = length - here;
            at += here;
        }
        let (whole, cut) = rest.split_at(at);
        self.packets.cut = cut.to_vec();
        if whole.is_empty() { Ok(()) } else { self.frame(whole) }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.written..).filter(|r| !r.is_empty()) {
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
        }
        self.out.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Compressed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        loop {
            let waiting = me.plain.get(me.taken..).unwrap_or_default();
            if !waiting.is_empty() {
                let n = waiting.len().min(buf.remaining());
                buf.put_slice(waiting.get(..n).unwrap_or_default());
                me.taken += n;
                me.packets.last = None;
                if me.taken == me.plain.len() {
                    me.plain = Vec::new();
                    me.taken = 0;
                }
                return Poll::Ready(Ok(()));
            }
            if me.open()? {
                continue;
            }
            let mut space = [0; 16 * 1024];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut me.inner).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            me.raw.extend_from_slice(read.filled());
        }
    }
}

impl AsyncWrite for Compressed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_out(cx))?;
        let chunk = buf.get(..buf.len().min(CHUNK)).unwrap_or_default();
        self.frames(chunk)?;
        // what cannot be written now is written by the next write or flush
        let _ = self.poll_out(cx)?;
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip_in_any_split() {
        let mut writer = Compressed::new(Stream::Gone, Peer::Client, Vec::new());
        let payload: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0] % 7).collect();
        writer.frame(b"short").unwrap();
        writer.frame(&payload).unwrap();
        assert!(writer.out.len() < payload.len() / 2);
        let mut reader = Compressed::new(Stream::Gone, Peer::Client, Vec::new());
        for byte in &writer.out {
            reader.raw.push(*byte);
            while reader.open().unwrap() {}
        }
        assert_eq!(reader.plain, [b"short".as_slice(), &payload].concat());
        assert_eq!(reader.sequence, 2);
    }

    /// The frames' sequence numbers and the bytes in them.
    fn read_frames(out: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut reader = Compressed::new(Stream::Gone, Peer::Client, out.to_vec());
        let mut frames = Vec::new();
        while reader.open().unwrap() {
            frames.push((reader.sequence.wrapping_sub(1), std::mem::take(&mut reader.plain)));
        }
        frames
    }

    #[test]
    fn commands_to_a_store_begin_at_frame_0_however_the_writes_cut_them() {
        let ping = [1, 0, 0, 0, 0x0e];
        let long = [[60, 0, 0, 0].as_slice(), &[9; 60]].concat();
        let data = [5, 0, 0, 3, 1, 2, 3, 4, 5];
        let all = [ping.as_slice(), &long, &data, &ping].concat();
        let mut whole = Compressed::new(Stream::Gone, Peer::Store, Vec::new());
        whole.frames(&all).unwrap();
        let commands = [(0, ping.to_vec()), (0, [long.as_slice(), &data].concat()), (0, ping.to_vec())];
        assert_eq!(read_frames(&whole.out), commands);
        for cut in 1..all.len() {
            let mut writer = Compressed::new(Stream::Gone, Peer::Store, Vec::new());
            let (head, tail) = all.split_at(cut);
            writer.frames(head).unwrap();
            writer.frames(tail).unwrap();
            let frames = read_frames(&writer.out);
            let mut expected: Vec<(u8, Vec<u8>)> = Vec::new();
            for (sequence, bytes) in frames {
                match expected.last_mut() {
                    Some((last, so_far)) if sequence > 0 => {
                        assert_eq!(sequence, 1, "cut at {cut}: only one frame is added by one cut");
                        assert_eq!(*last, 0);
                        so_far.extend(bytes);
                    }
                    _ => expected.push((sequence, bytes)),
                }
            }
            assert_eq!(expected, commands, "cut at {cut}");
        }
    }

    #[test]
    fn a_file_of_more_packets_than_numbers_is_no_command() {
        let mut writer = Compressed::new(Stream::Gone, Peer::Store, Vec::new());
        let mut payload = Vec::new();
        let mut next = 2;
        for _ in 0..600 {
            payload.extend([1, 0, 0, next, b'x']);
            next = next.wrapping_add(1);
        }
        writer.frames(&payload).unwrap();
        assert_eq!(read_frames(&writer.out).len(), 1);
    }

    #[test]
    fn a_frame_that_lies_is_refused() {
        let mut writer = Compressed::new(Stream::Gone, Peer::Client, Vec::new());
        writer.frame(&[7; 5000]).unwrap();
        let mut lies = writer.out.clone();
        lies[4] = 1;
        assert!(Compressed::new(Stream::Gone, Peer::Client, lies).open().is_err());
        let garbage = vec![4, 0, 0, 0, 9, 0, 0, 1, 2, 3, 4];
        assert!(Compressed::new(Stream::Gone, Peer::Client, garbage).open().is_err());
    }
}
