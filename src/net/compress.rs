//! The compressed protocol, on a client's leg and on that of the store it logged in at: zlib frames below the packets.
//!
//! It is offered where that store offers it, and spoken on both legs or, with a client that compresses unasked (mysqlnd), on the
//! client's. Frames are numbered from 0 with each command, apart from the packets in them. Source: MySQL "Compression": 3 bytes
//! compressed length, 1 byte sequence number, 3 bytes length before compression (0: not compressed).

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;

/// Bytes of a frame's header.
const HEADER: usize = 7;
/// Shorter payloads are sent as they are, as MySQL does.
const WORTH: usize = 50;
/// Payload bytes of one frame that is written.
const CHUNK: usize = 64 * 1024;

/// A stream whose bytes travel in compressed frames.
#[derive(Debug)]
pub struct Compressed {
    inner: Stream,
    /// Bytes read that are no whole frame yet.
    raw: Vec<u8>,
    /// Bytes of whole frames that were not taken yet.
    plain: Vec<u8>,
    taken: usize,
    /// Frames that were not written yet.
    out: Vec<u8>,
    written: usize,
    sequence: u8,
    /// Towards a store: where its commands begin.
    commands: Option<Commands>,
}

/// Finds the beginnings of commands in what is written to a store.
#[derive(Debug, Default)]
struct Commands {
    /// Payload bytes of the packet under way that were not written yet.
    left: usize,
    /// Sequence number of the newest packet.
    newest: u8,
}

impl Commands {
    /// How many of `bytes` may go into one frame, and whether they begin a command.
    fn stretch(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        let mut begins = false;
        loop {
            let inside = self.left.min(bytes.len() - at);
            self.left -= inside;
            at += inside;
            let rest = bytes.get(at..).unwrap_or_default();
            let Some([l0, l1, l2, sequence]) = rest.first_chunk::<4>().copied() else {
                // a header is not cut in two, unless the writer did
                return (if at == 0 { bytes.len() } else { at }, begins);
            };
            // behind 255 the packets of LOAD DATA LOCAL go on with 0
            let first = sequence == 0 && self.newest != u8::MAX;
            if first && at > 0 {
                return (at, begins);
            }
            begins |= first;
            self.newest = sequence;
            self.left = u32::from_le_bytes([l0, l1, l2, 0]) as usize;
            at += 4;
        }
    }
}

fn split3(n: usize) -> [u8; 3] {
    let [a, b, c, ..] = n.to_le_bytes();
    [a, b, c]
}

impl Compressed {
    /// Wraps `inner`; `read` was read from it already.
    #[must_use]
    pub fn new(inner: Stream, read: Vec<u8>) -> Compressed {
        Compressed {
            inner,
            raw: read,
            plain: Vec::new(),
            taken: 0,
            out: Vec::new(),
            written: 0,
            sequence: 0,
            commands: None,
        }
    }

    /// Wraps the connection to a store.
    #[must_use]
    pub fn to_store(inner: Stream, read: Vec<u8>) -> Compressed {
        Compressed { commands: Some(Commands::default()), ..Compressed::new(inner, read) }
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
        let mut chunk = buf.get(..buf.len().min(CHUNK)).unwrap_or_default();
        if let Some(commands) = &mut self.commands {
            let (n, begins) = commands.stretch(chunk);
            chunk = chunk.get(..n).unwrap_or_default();
            if begins {
                self.sequence = 0;
            }
        }
        self.frame(chunk)?;
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
        let mut writer = Compressed::new(Stream::Gone, Vec::new());
        let payload: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0] % 7).collect();
        writer.frame(b"short").unwrap();
        writer.frame(&payload).unwrap();
        assert!(writer.out.len() < payload.len() / 2);
        let mut reader = Compressed::new(Stream::Gone, Vec::new());
        for byte in &writer.out {
            reader.raw.push(*byte);
            while reader.open().unwrap() {}
        }
        assert_eq!(reader.plain, [b"short".as_slice(), &payload].concat());
        assert_eq!(reader.sequence, 2);
    }

    #[test]
    fn frames_to_a_store_begin_with_commands() {
        let packet = |sequence: u8, length: usize| {
            let mut p = split3(length).to_vec();
            p.push(sequence);
            p.resize(4 + length, b'x');
            p
        };
        let stretches = |bytes: &[u8]| {
            let mut commands = Commands::default();
            let mut at = 0;
            let mut out = Vec::new();
            while at < bytes.len() {
                let (n, begins) = commands.stretch(&bytes[at..bytes.len().min(at + 1000)]);
                out.push((n, begins));
                at += n;
            }
            out
        };
        // two commands in one write; a command of two packets; one longer than a frame
        assert_eq!(stretches(&[packet(0, 5), packet(0, 7)].concat()), [(9, true), (11, true)]);
        assert_eq!(stretches(&[packet(0, 5), packet(1, 7)].concat()), [(20, true)]);
        assert_eq!(stretches(&[packet(0, 1500), packet(0, 1)].concat()), [(1000, true), (504, false), (5, true)]);
        // a header that a frame's end would cut goes into the next
        assert_eq!(stretches(&[packet(0, 994), packet(0, 1)].concat()), [(998, true), (5, true)]);
        // a file's packets behind number 255
        assert_eq!(stretches(&[packet(255, 1), packet(0, 1), packet(1, 0)].concat()), [(14, false)]);
    }

    #[test]
    fn a_frame_that_lies_is_refused() {
        let mut writer = Compressed::new(Stream::Gone, Vec::new());
        writer.frame(&[7; 5000]).unwrap();
        let mut lies = writer.out.clone();
        lies[4] = 1;
        assert!(Compressed::new(Stream::Gone, lies).open().is_err());
        let garbage = vec![4, 0, 0, 0, 9, 0, 0, 1, 2, 3, 4];
        assert!(Compressed::new(Stream::Gone, garbage).open().is_err());
    }
}
