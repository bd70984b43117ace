//! A connection's bytes, whatever carries them: TCP or a unix socket, plain or TLS. All socket I/O of the data plane passes here.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Socket;
use super::tls::Agreed;

/// Who is at the other end of a client's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over our unix socket, with its user id where the system tells.
    Unix(Option<u32>),
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Tcp(a) => a.fmt(f),
            Peer::Unix(Some(uid)) => write!(f, "unix socket (uid {uid})"),
            Peer::Unix(None) => f.write_str("unix socket"),
        }
    }
}

/// A socket of which some bytes were read already: a client may send its TLS ClientHello right behind the SSLRequest.
#[derive(Debug)]
pub struct Prefixed {
    prefix: Vec<u8>,
    socket: Socket,
}

impl Prefixed {
    /// `prefix` is read first, then `socket`.
    #[must_use]
    pub fn new(prefix: Vec<u8>, socket: Socket) -> Self {
        Prefixed { prefix, socket }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let n = self.prefix.len().min(buf.remaining());
        buf.put_slice(self.prefix.get(..n).unwrap_or_default());
        self.prefix.drain(..n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A socket, plain or wrapped in TLS.
#[derive(Debug)]
pub enum Stream {
    /// As it is.
    Plain(Socket),
    /// A client's connection over TLS.
    Accepted(Box<tokio_rustls::server::TlsStream<Prefixed>>),
    /// A connection to a store over TLS.
    Connected(Box<tokio_rustls::client::TlsStream<Prefixed>>),
    /// A connection, plain or over TLS, in the compressed protocol.
    Compressed(Box<super::compress::Compressed>),
    /// Between two of these: while TLS begins.
    Gone,
}

impl Stream {
    /// Whether it is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        match self {
            Stream::Accepted(_) | Stream::Connected(_) => true,
            Stream::Compressed(c) => c.inner().is_tls(),
            Stream::Plain(_) | Stream::Gone => false,
        }
    }

    /// Whether written bytes may wait for a flush.
    #[must_use]
    pub fn needs_flush(&self) -> bool {
        !matches!(self, Stream::Plain(_))
    }

    /// Writes at once what can be written at once; `None` where it must be waited for, or written by [`AsyncWrite`].
    #[inline]
    pub fn write_now(&self, bytes: &[u8]) -> Option<io::Result<usize>> {
        match self {
            Stream::Plain(s) => s.write_now(bytes),
            _ => None,
        }
    }

    /// The socket at the bottom.
    fn socket(&self) -> Option<&Socket> {
        match self {
            Stream::Plain(s) => Some(s),
            Stream::Accepted(s) => Some(&s.get_ref().0.socket),
            Stream::Connected(s) => Some(&s.get_ref().0.socket),
            Stream::Compressed(c) => c.inner().socket(),
            Stream::Gone => None,
        }
    }

    /// When it is dropped, the peer shall see a reset instead of an orderly end (TCP only).
    pub fn reset_on_drop(&self) {
        if let Some(socket) = self.socket() {
            socket.reset_on_drop();
        }
    }

    /// Whether a unix socket carries it, whatever lies between.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.socket().is_some_and(Socket::is_unix)
    }

    /// Whether a password may travel on it as it is: encrypted, or on a unix socket.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.is_tls() || self.is_unix()
    }

    /// What TLS with a client agreed on.
    #[must_use]
    pub fn agreed(&self) -> Option<Agreed> {
        match self {
            Stream::Accepted(s) => {
                let tls = &s.get_ref().1;
                Some((tls.protocol_version()?, tls.negotiated_cipher_suite()?.suite()))
            }
            _ => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Accepted(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
            Stream::Connected(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
            Stream::Compressed(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Accepted(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
            Stream::Connected(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
            Stream::Compressed(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
            Stream::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(_) | Stream::Gone => Poll::Ready(Ok(())),
            Stream::Accepted(s) => Pin::new(s.as_mut()).poll_flush(cx),
            Stream::Connected(s) => Pin::new(s.as_mut()).poll_flush(cx),
            Stream::Compressed(s) => Pin::new(s.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Accepted(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
            Stream::Connected(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
            Stream::Compressed(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
            Stream::Gone => Poll::Ready(Ok(())),
        }
    }
}
