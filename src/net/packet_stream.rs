//! Packets over a [`Stream`]: bytes are read into a pooled buffer, looked at there, and written on from there.
//!
//! Nothing is copied but what a read cut in two. A peer that reads slowly stops the other side: at most one buffer of
//! [`super::buffer::SIZE`] bytes waits between them.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::{Buffers, Input};
use super::compress::{Compressed, Peer};
use super::stream::Stream;
use crate::wire::packet::{self, HEADER, Header};

/// Bytes that a connection may move while it never has to wait, before others have their turn.
const TURN: usize = 128 * 1024;

/// A connection that speaks packets.
#[derive(Debug)]
pub struct PacketStream {
    stream: Stream,
    input: Input,
    /// Bytes moved since others had their turn.
    spent: usize,
    /// See [`Buffers::command_came`].
    last_command: u64,
}

impl PacketStream {
    /// Wraps a stream; its buffers come from `buffers` and go back there.
    #[must_use]
    pub fn new(stream: Stream, buffers: Rc<Buffers>) -> Self {
        PacketStream { stream, input: Input::new(buffers), spent: 0, last_command: 0 }
    }

    /// The stream beneath.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The core's buffers.
    #[must_use]
    pub fn buffers(&self) -> &Rc<Buffers> {
        self.input.buffers()
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

    /// The client at the other end has sent a command.
    #[inline]
    pub fn command_came(&mut self) {
        self.input.buffers().command_came(&mut self.last_command);
    }

    /// Bytes read and not consumed.
    #[must_use]
    #[inline]
    pub fn buffered(&self) -> &[u8] {
        self.input.bytes()
    }

    /// The same, to be changed in place.
    pub fn buffered_mut(&mut self) -> &mut [u8] {
        self.input.bytes_mut()
    }

    /// Drops the first `n` buffered bytes; an empty buffer goes back to the core.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        self.input.consume(n);
    }

    /// Reads once, behind what is buffered; 0 bytes mean that the peer closed, or that the buffer is full.
    #[inline]
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream {
            Stream::Plain(socket) => socket.poll_recv(cx, &mut self.input),
            other => fill_from(other, &mut self.input, cx),
        };
        if polled.is_pending() {
            self.spent = 0;
        }
        polled
    }

    /// Reads once; see [`PacketStream::poll_fill`].
    ///
    /// # Errors
    /// As the socket's; `UnexpectedEof` when the peer closed.
    pub async fn fill(&mut self) -> io::Result<usize> {
        match poll_fn(|cx| self.poll_fill(cx)).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.spend(n).await;
                Ok(n)
            }
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

    /// As [`Self::write_message`], of a payload in two pieces, the second of which is large: it is not copied.
    ///
    /// # Errors
    /// As the socket's.
    pub async fn write_large(&mut self, sequence: u8, head: &[u8], body: &[u8]) -> io::Result<()> {
        let length = head.len() + body.len();
        if length >= packet::MAX_PAYLOAD {
            return self.write_message(sequence, &[head, body].concat()).await.map(|_| ());
        }
        let mut out = Vec::with_capacity(HEADER + head.len());
        packet::put_header(&mut out, length, sequence);
        out.extend_from_slice(head);
        self.write(&out).await?;
        self.write(body).await
    }

    /// Passes on to `to` the first `n` buffered bytes, and drops them.
    ///
    /// # Errors
    /// As the socket's of `to`.
    pub async fn pass(&mut self, to: &mut PacketStream, n: usize) -> io::Result<()> {
        write_all(&mut to.stream, self.buffered().get(..n).unwrap_or_default()).await?;
        self.consume(n);
        self.spend(n).await;
        Ok(())
    }

    /// Counts bytes against what a session may move before the others of its core have their turn (RULES.md 23).
    #[inline]
    async fn spend(&mut self, n: usize) {
        self.spent += n;
        if self.spent >= TURN {
            self.spent = 0;
            tokio::task::yield_now().await;
        }
    }

    /// Ends the connection in order (TLS close_notify, FIN).
    pub async fn shutdown(&mut self) {
        let _ = poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await;
    }
}

#[inline(never)]
fn fill_from(stream: &mut Stream, input: &mut Input, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut read = ReadBuf::new(input.space());
    let polled = Pin::new(stream).poll_read(cx, &mut read);
    let n = read.filled().len();
    input.filled(n);
    polled.map_ok(|()| n)
}

/// Writes everything: mostly at once.
#[inline]
async fn write_all(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    let written = match stream.write_now(bytes) {
        Some(n) => n?,
        None => 0,
    };
    if written < bytes.len() {
        return write_rest(stream, bytes.get(written..).unwrap_or_default()).await;
    }
    Ok(())
}

async fn write_rest(stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::super::Socket;
    use super::super::buffer::SIZE;
    use super::*;

    fn stream(socket: UnixStream, buffers: &Rc<Buffers>) -> PacketStream {
        socket.set_nonblocking(true).unwrap();
        PacketStream::new(Stream::Plain(Socket::unix(socket, buffers).unwrap()), Rc::clone(buffers))
    }

    /// RULES.md 23: a result that never ends leaves the core to the others after each turn, however fast both its ends are.
    #[test]
    fn a_long_relay_lets_others_have_their_turn() {
        const BYTES: usize = 64 << 20;
        let (mut source, from) = UnixStream::pair().unwrap();
        let (to, mut sink) = UnixStream::pair().unwrap();
        let writer = thread::spawn(move || (0..BYTES / SIZE).for_each(|_| source.write_all(&[7; SIZE]).unwrap()));
        let reader = thread::spawn(move || {
            let mut sum = Vec::new();
            sink.read_to_end(&mut sum).unwrap();
            sum.len()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (moved, longest) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (seen, most) = (Rc::clone(&moved), Rc::clone(&longest));
            let other = tokio::task::spawn_local(async move {
                let mut last = 0;
                while seen.get() < BYTES {
                    most.set(most.get().max(seen.get() - last));
                    last = seen.get();
                    tokio::task::yield_now().await;
                }
            });
            let buffers = Rc::new(Buffers::default());
            let (mut from, mut to) = (stream(from, &buffers), stream(to, &buffers));
            while poll_fn(|cx| from.poll_fill(cx)).await.unwrap() > 0 {
                let n = from.buffered().len();
                moved.set(moved.get() + n);
                from.pass(&mut to, n).await.unwrap();
            }
            other.await.unwrap();
        });
        writer.join().unwrap();
        assert_eq!((moved.get(), reader.join().unwrap()), (BYTES, BYTES));
        assert!(longest.get() <= TURN + SIZE, "{} bytes in one turn", longest.get());
    }

    /// The waker that a socket keeps is that of the task that reads it now.
    #[test]
    fn a_stream_that_changes_its_task_is_read_on() {
        let (mut source, from) = UnixStream::pair().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let mut from = stream(from, &Rc::new(Buffers::default()));
            for round in 0..3u8 {
                // polled here, and given up: what comes is read by another task
                poll_fn(|cx| {
                    assert!(from.poll_fill(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                let reading = tokio::task::spawn_local(async move {
                    from.fill().await.unwrap();
                    let seen = from.buffered().to_vec();
                    from.consume(seen.len());
                    (from, seen)
                });
                tokio::task::yield_now().await;
                source.write_all(&[round; 3]).unwrap();
                let (back, seen) = reading.await.unwrap();
                assert_eq!(seen, [round; 3]);
                from = back;
            }
        });
    }
}
