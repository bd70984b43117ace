//! The compressed protocol, below the packets, on clients' connections: frames of a 7-byte header and zlib data.
//!
//! ```text
//! length of the data (3) | sequence (1) | length once inflated (3; 0: the data is not compressed) | data
//! ```
//!
//! Frames and packets are cut independently. PHP's mysqlnd compresses when it is told to, whatever the greeting offers; the
//! leg to the store stays plain. Source: MySQL "Compression", MariaDB "Compressed packet".

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::packet_stream::PacketStream;
use super::stream::Stream;

const HEADER: usize = 7;
/// Shorter data is sent as it is, as the servers do (MIN_COMPRESS_LENGTH).
const WORTH_IT: usize = 50;
/// Bytes of packets in one frame that is written.
const CHUNK: usize = 64 << 10;
/// Bytes read from the peer at once.
const READ: usize = 16 << 10;

/// A connection whose bytes travel in compressed frames.
#[derive(Debug)]
pub struct Compressed {
    inner: Stream,
    /// Read from the peer, not inflated yet.
    raw: Vec<u8>,
    /// Inflated, not given out yet from `given` on.
    plain: Vec<u8>,
    given: usize,
    /// A frame, not yet written from `written` on.
    out: Vec<u8>,
    written: usize,
    /// Of the next frame that is written: it follows the peer's.
    sequence: u8,
    inflate: Decompress,
    deflate: Compress,
}

/// From here on `stream` speaks in compressed frames.
pub fn begin(stream: &mut PacketStream) {
    let (inner, raw) = stream.take_stream();
    stream.put_back(Stream::Compressed(Box::new(Compressed {
        inner,
        raw,
        plain: Vec::new(),
        given: 0,
        out: Vec::new(),
        written: 0,
        sequence: 0,
        inflate: Decompress::new(true),
        deflate: Compress::new(Compression::fast(), true),
    })));
}

fn length(bytes: &[u8]) -> usize {
    match bytes {
        [a, b, c, ..] => u32::from_le_bytes([*a, *b, *c, 0]) as usize,
        _ => 0,
    }
}

fn put_length(out: &mut Vec<u8>, n: usize) {
    out.extend(u32::try_from(n).unwrap_or(0).to_le_bytes().into_iter().take(3));
}

fn corrupt() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a compressed frame that does not inflate")
}

impl Compressed {
    /// The stream beneath.
    #[must_use]
    pub fn inner(&self) -> &Stream {
        &self.inner
    }

    /// Inflates the frame at the start of `raw` if it is all there; whether it was.
    fn take_frame(&mut self) -> io::Result<bool> {
        let Some(header) = self.raw.get(..HEADER) else { return Ok(false) };
        let (whole, inflated) = (HEADER + length(header), length(header.get(4..).unwrap_or_default()));
        let sequence = header.get(3).copied().unwrap_or(0);
        let Some(data) = self.raw.get(HEADER..whole) else { return Ok(false) };
        self.sequence = sequence.wrapping_add(1);
        self.plain.clear();
        self.given = 0;
        if inflated == 0 {
            self.plain.extend_from_slice(data);
        } else {
            self.inflate.reset(true);
            self.plain.reserve(inflated);
            let status = self.inflate.decompress_vec(data, &mut self.plain, FlushDecompress::Finish);
            if !matches!(status, Ok(Status::StreamEnd)) || self.plain.len() != inflated {
                return Err(corrupt());
            }
        }
        self.raw.drain(..whole);
        Ok(true)
    }

    fn put_frame(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.clear();
        self.written = 0;
        self.out.resize(HEADER, 0);
        let mut inflated = 0;
        if bytes.len() >= WORTH_IT {
            self.deflate.reset();
            // more than it can come to: zlib grows what it cannot compress by five bytes per 16 KiB
            self.out.reserve(bytes.len() + bytes.len() / 1024 + 64);
            let status = self.deflate.compress_vec(bytes, &mut self.out, FlushCompress::Finish);
            if matches!(status, Ok(Status::StreamEnd)) && self.out.len() - HEADER < bytes.len() {
                inflated = bytes.len();
            } else {
                self.out.truncate(HEADER);
            }
        }
        if inflated == 0 {
            self.out.extend_from_slice(bytes);
        }
        let mut header = Vec::with_capacity(HEADER);
        put_length(&mut header, self.out.len() - HEADER);
        header.push(self.sequence);
        put_length(&mut header, inflated);
        match self.out.get_mut(..HEADER) {
            Some(slot) => slot.copy_from_slice(&header),
            None => return Err(corrupt()),
        }
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let rest = self.out.get(self.written..).unwrap_or_default();
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
        }
        self.out = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Compressed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let rest = this.plain.get(this.given..).unwrap_or_default();
            if !rest.is_empty() {
                let n = rest.len().min(buf.remaining());
                buf.put_slice(rest.get(..n).unwrap_or_default());
                this.given += n;
                if this.given == this.plain.len() {
                    // an idle connection holds no buffer
                    this.plain = Vec::new();
                    this.given = 0;
                }
                return Poll::Ready(Ok(()));
            }
            if this.take_frame()? {
                continue;
            }
            let mut chunk = [0; READ];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.raw.extend_from_slice(read.filled());
        }
    }
}

impl AsyncWrite for Compressed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_drain(cx))?;
        let taken = buf.get(..buf.len().min(CHUNK)).unwrap_or_default();
        if taken.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.put_frame(taken)?;
        // what does not go out now goes with the next write or the flush
        if let Poll::Ready(Err(e)) = this.poll_drain(cx) {
            return Poll::Ready(Err(e));
        }
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::net::{Buffers, Socket};
    use crate::wire::packet;

    fn pair() -> (PacketStream, PacketStream) {
        let (a, b) = tokio::net::UnixStream::pair().unwrap();
        let wrap = |s| PacketStream::new(Stream::Plain(Socket::Unix(s)), Rc::new(Buffers::default()));
        (wrap(a), wrap(b))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn packets_of_all_sizes_come_through() {
        for size in [0, 1, 49, 50, 1000, 70_000, 20_000_000] {
            let (mut a, mut b) = pair();
            begin(&mut a);
            begin(&mut b);
            // half of it compresses, half does not
            let mut state = 1_u32;
            let payload: Vec<u8> = (0..size)
                .map(|i| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if i % 2 == 0 { 7 } else { state.to_le_bytes()[3] }
                })
                .collect();
            let send = async { a.write_message(0, &payload).await.unwrap() };
            let (_, (sequence, got)) = tokio::join!(send, async { b.read_message(1 << 25).await.unwrap() });
            assert_eq!(usize::from(sequence), size / packet::MAX_PAYLOAD);
            assert!(got == payload, "{size}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn frames_are_numbered_after_the_peers() {
        let (a, mut b) = pair();
        let mut a = a;
        begin(&mut b);
        // a frame that is not compressed: one packet, a ping
        a.write(&[5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 14]).await.unwrap();
        assert_eq!(b.read_message(100).await.unwrap(), (0, vec![14]));
        b.write_message(1, &[0; 60]).await.unwrap();
        while a.buffered().len() < HEADER {
            a.fill().await.unwrap();
        }
        assert_eq!(a.buffered()[3], 1);
        assert_eq!(length(&a.buffered()[4..]), 64);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nonsense_is_an_error() {
        let (mut a, mut b) = pair();
        begin(&mut b);
        a.write(&[3, 0, 0, 0, 9, 0, 0, 1, 2, 3]).await.unwrap();
        assert_eq!(b.fill().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
