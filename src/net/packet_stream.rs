//! Packets over a [`Stream`]: bytes are read into a pooled buffer, looked at there, and written on from there.
//!
//! Nothing is copied but what a read cut in two. A peer that reads slowly stops the other side: at most one buffer of
//! [`super::buffer::SIZE`] bytes waits between them.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::Buffers;
use super::compress::{Compressed, Peer};
use super::stream::Stream;
use crate::wire::packet::{self, HEADER, Header};

/// A connection that speaks packets.
#[derive(Debug)]
pub struct PacketStream {
    stream: Stream,
    buffers: Rc<Buffers>,
    input: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Drop for PacketStream {
    fn drop(&mut self) {
        if let Some(b) = self.input.take() {
            self.buffers.give(b);
        }
    }
}

impl PacketStream {
    /// Wraps a stream; its buffers come from `buffers` and go back there.
    #[must_use]
    pub fn new(stream: Stream, buffers: Rc<Buffers>) -> Self {
        PacketStream { stream, buffers, input: None, start: 0, end: 0 }
    }

    /// The stream beneath.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The core's buffers.
    #[must_use]
    pub fn buffers(&self) -> &Rc<Buffers> {
        &self.buffers
    }

    /// Takes the stream out, with the bytes that were read and not consumed, to wrap it in TLS; [`PacketStream::put_back`] returns it.
    pub fn take_stream(&mut self) -> (Stream, Vec<u8>) {
        let rest = self.buffered().to_vec();
        self.consume(rest.len());
        (std::mem::replace(&mut self.stream, Stream::Gone), rest)
    }

    /// See [`PacketStream::take_stream`].
    pub fn put_back(&mut self, stream: Stream) {
        self.stream = stream;
    }

    /// From here on the peer speaks the compressed protocol.
    pub fn compress(&mut self, peer: Peer) {
        let (stream, rest) = self.take_stream();
        self.put_back(Stream::Compressed(Box::new(Compressed::new(stream, peer, rest))));
    }

    /// Bytes read and not consumed.
    #[must_use]
    pub fn buffered(&self) -> &[u8] {
        self.input.as_deref().and_then(|b| b.get(self.start..self.end)).unwrap_or_default()
    }

    /// The same, to be changed in place.
    pub fn buffered_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start, self.end);
        self.input.as_deref_mut().and_then(|b| b.get_mut(start..end)).unwrap_or_default()
    }

    /// Drops the first `n` buffered bytes; an empty buffer goes back to the core.
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if let Some(b) = self.input.take() {
                self.buffers.give(b);
            }
        }
    }

    /// Reads once, behind what is buffered; 0 bytes mean that the peer closed, or that the buffer is full.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let buffer = self.input.get_or_insert_with(|| self.buffers.take());
        if self.start > 0 && self.end == buffer.len() {
            buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let mut read = ReadBuf::new(buffer.get_mut(self.end..).unwrap_or_default());
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut read);
        let n = read.filled().len();
        self.end += n;
        if self.start == self.end {
            self.consume(0);
        }
        ready!(polled)?;
        Poll::Ready(Ok(n))
    }

    /// Reads once; see [`PacketStream::poll_fill`].
    ///
    /// # Errors
    /// As the socket's; `UnexpectedEof` when the peer closed.
    pub async fn fill(&mut self) -> io::Result<usize> {
        match poll_fn(|cx| self.poll_fill(cx)).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => Ok(n),
        }
    }

    /// Writes everything; waits while the peer does not read.
    ///
    /// # Errors
    /// As the socket's.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        write_all(&mut self.stream, bytes).await
    }

    /// The header at the start of the buffered bytes, and whether its whole packet is there.
    #[must_use]
    pub fn peek(&self) -> Option<(Header, bool)> {
        let bytes = self.buffered();
        let header = Header::read(bytes)?;
        Some((header, bytes.len() >= HEADER + header.len()))
    }

    /// Reads one message (a payload that may span packets) of at most `limit` bytes; returns the sequence number of its last packet.
    ///
    /// # Errors
    /// As the socket's; `UnexpectedEof` when the peer closed; `InvalidData` for a longer message.
    pub async fn read_message(&mut self, limit: usize) -> io::Result<(u8, Vec<u8>)> {
        let mut payload = Vec::new();
        loop {
            let header = loop {
                if let Some((header, _)) = self.peek() {
                    break header;
                }
                self.fill().await?;
            };
            if payload.len() + header.len() > limit {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a message beyond the limit"));
            }
            self.consume(HEADER);
            let mut left = header.len();
            while left > 0 {
                if self.buffered().is_empty() {
                    self.fill().await?;
                }
                let take = self.buffered().get(..left.min(self.buffered().len())).unwrap_or_default();
                payload.extend_from_slice(take);
                let n = take.len();
                left -= n;
                self.consume(n);
            }
            if !header.continues() {
                return Ok((header.sequence, payload));
            }
        }
    }

    /// Writes one message from sequence number `sequence`; returns the next number.
    ///
    /// # Errors
    /// As the socket's.
    pub async fn write_message(&mut self, sequence: u8, payload: &[u8]) -> io::Result<u8> {
        let mut out = Vec::with_capacity(HEADER + payload.len());
        let next = packet::put(&mut out, sequence, payload);
        self.write(&out).await?;
        Ok(next)
    }

    /// Passes on to `to` the first `n` buffered bytes, and drops them.
    ///
    /// # Errors
    /// As the socket's of `to`.
    pub async fn pass(&mut self, to: &mut PacketStream, n: usize) -> io::Result<()> {
        write_all(&mut to.stream, self.buffered().get(..n).unwrap_or_default()).await?;
        self.consume(n);
        Ok(())
    }

    /// Ends the connection in order (TLS close_notify, FIN).
    pub async fn shutdown(&mut self) {
        let _ = poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await;
    }
}

async fn write_all(stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, bytes)).await?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(n..).unwrap_or_default();
    }
    if stream.needs_flush() {
        poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await?;
    }
    Ok(())
}
