//! A plain socket: read and written as soon as tokio says that it is ready, or, while many connections of the core are at work,
//! through the core's ring ([`super::ring`]), which costs less for many and more for few.
//!
//! With tokio, it takes one system call per read or write, and no bookkeeping beside it. It does by hand what tokio's own streams do,
//! for less: a read that finds nothing costs one look at a flag; the task's waker is registered once and stays until it was used; a
//! call that moved fewer bytes than it was given has drained (or filled) the socket, and is not followed by another that would only
//! say so (epoll(7), edge-triggered). tokio's cooperative budget is not charged: [`super::PacketStream`] keeps a session from
//! starving its core.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop;

use super::buffer::{Buffers, Input};
use super::ring::{Plain, Ring, RingSocket};

/// A socket, plain.
#[derive(Debug)]
pub struct Socket {
    kind: Kind,
    /// The task whose waker waits for bytes to read, by its address; 0 for none.
    waiting: usize,
    /// The core's ring.
    ring: Option<Rc<Ring>>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
    Ring(RingSocket),
    /// Between two of these, and after a change that failed.
    Gone,
}

/// What an attempt to read or write at once came to.
enum Attempt {
    /// So many bytes.
    Moved(usize),
    /// The socket has failed.
    Failed(io::Error),
    /// It was said to be ready, and is not: whoever waited for that was woken.
    Nothing,
    /// It is not ready; nothing was tried.
    NotReady,
}

impl Kind {
    fn with_tokio(plain: Plain) -> io::Result<Kind> {
        Ok(match plain {
            Plain::Tcp(s) => Kind::Tcp(TcpStream::from_std(s)?),
            Plain::Unix(s) => Kind::Unix(UnixStream::from_std(s)?),
        })
    }

    /// Does `call` if the socket is ready for it; it returns how many bytes it moved, of how many.
    #[inline]
    fn attempt(
        &self,
        interest: Interest,
        mut call: impl FnMut(BorrowedFd<'_>) -> Result<(usize, usize), Errno>,
    ) -> Attempt {
        let mut attempt = Attempt::NotReady;
        let mut once = |fd: BorrowedFd<'_>| {
            loop {
                match call(fd) {
                    Ok((n, of)) => {
                        attempt = Attempt::Moved(n);
                        // fewer than asked for: tokio forgets that the socket was ready, and the kernel tells when it is again
                        return if 0 < n && n < of { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) };
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => {
                        attempt = Attempt::Nothing;
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    Err(e) => {
                        attempt = Attempt::Failed(e.into());
                        return Ok(());
                    }
                }
            }
        };
        let tried = match self {
            Kind::Tcp(s) => s.try_io(interest, || once(s.as_fd())),
            Kind::Unix(s) => s.try_io(interest, || once(s.as_fd())),
            // (not asked: a ring's sockets have their own ways)
            Kind::Ring(_) | Kind::Gone => Ok(()),
        };
        // an error of a kind alone owns nothing that would have to be dropped
        std::mem::forget(tried);
        attempt
    }

    fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>> {
        match (self, interest.is_readable()) {
            (Kind::Tcp(s), true) => s.poll_read_ready(cx),
            (Kind::Tcp(s), false) => s.poll_write_ready(cx),
            (Kind::Unix(s), true) => s.poll_read_ready(cx),
            (Kind::Unix(s), false) => s.poll_write_ready(cx),
            // (a change that failed: nobody shall wait for it, or try again)
            (Kind::Ring(_) | Kind::Gone, _) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Socket {
    /// A connected TCP socket that does not block.
    ///
    /// # Errors
    /// It has failed, or cannot be watched.
    pub fn tcp(socket: std::net::TcpStream, core: &Buffers) -> io::Result<Socket> {
        Ok(Socket { kind: Kind::with_tokio(Plain::Tcp(socket))?, waiting: 0, ring: core.ring().cloned() })
    }

    /// A connected unix socket that does not block.
    ///
    /// # Errors
    /// As [`Socket::tcp`].
    pub fn unix(socket: std::os::unix::net::UnixStream, core: &Buffers) -> io::Result<Socket> {
        Ok(Socket { kind: Kind::with_tokio(Plain::Unix(socket))?, waiting: 0, ring: core.ring().cloned() })
    }

    /// A TCP socket that tokio has connected.
    #[must_use]
    pub fn connected_tcp(stream: TcpStream, core: &Buffers) -> Socket {
        Socket { kind: Kind::Tcp(stream), waiting: 0, ring: core.ring().cloned() }
    }

    /// A unix socket that tokio has connected.
    #[must_use]
    pub fn connected_unix(stream: UnixStream, core: &Buffers) -> Socket {
        Socket { kind: Kind::Unix(stream), waiting: 0, ring: core.ring().cloned() }
    }

    /// Goes over to the core's ring while many connections are at work, and back to tokio.
    #[inline]
    fn follow(&mut self, cx: &Context<'_>) -> io::Result<()> {
        match &self.ring {
            Some(ring) if ring.is_crowded() != matches!(self.kind, Kind::Ring(_)) => self.change(cx),
            _ => Ok(()),
        }
    }

    #[cold]
    fn change(&mut self, cx: &Context<'_>) -> io::Result<()> {
        let Some(ring) = &self.ring else { return Ok(()) };
        let plain = match std::mem::replace(&mut self.kind, Kind::Gone) {
            Kind::Tcp(s) => Plain::Tcp(s.into_std()?),
            Kind::Unix(s) => Plain::Unix(s.into_std()?),
            Kind::Ring(s) => {
                self.kind = match s.into_plain() {
                    Ok(plain) => Kind::with_tokio(plain)?,
                    Err(s) => Kind::Ring(s),
                };
                return Ok(());
            }
            Kind::Gone => return Err(io::ErrorKind::NotConnected.into()),
        };
        self.kind = Kind::Ring(RingSocket::new(plain, ring)?);
        // whoever waits for this socket in this task, must wait for it in the ring
        self.waiting = 0;
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Whether it is a unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        match &self.kind {
            Kind::Tcp(_) | Kind::Gone => false,
            Kind::Unix(_) => true,
            Kind::Ring(s) => s.is_unix(),
        }
    }

    /// The other end's address, over TCP.
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(s) => s.peer_addr().ok(),
            Kind::Unix(_) | Kind::Gone => None,
            Kind::Ring(s) => s.peer_address(),
        }
    }

    /// When it is dropped, the peer shall see a reset instead of an orderly end (TCP only).
    pub fn reset_on_drop(&self) {
        match &self.kind {
            Kind::Tcp(s) => {
                let _ = s.set_zero_linger();
            }
            Kind::Unix(_) | Kind::Gone => {}
            Kind::Ring(s) => s.reset_on_drop(),
        }
    }

    /// Reads once into `input`; 0 bytes mean that the peer closed, or that there is no space.
    #[inline]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>, input: &mut Input) -> Poll<io::Result<usize>> {
        self.follow(cx)?;
        if let Kind::Ring(s) = &self.kind {
            return s.poll_recv(cx, input);
        }
        self.poll_with(cx, |fd| {
            let space = input.space();
            let of = space.len();
            let read = recv(fd, space, RecvFlags::empty()).map(|(_, n)| n);
            input.filled(read.unwrap_or(0));
            read.map(|n| (n, of))
        })
    }

    #[inline]
    fn poll_with(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(BorrowedFd<'_>) -> Result<(usize, usize), Errno>,
    ) -> Poll<io::Result<usize>> {
        let task = cx.waker().data().addr();
        loop {
            match self.kind.attempt(Interest::READABLE, &mut read) {
                Attempt::NotReady if self.waiting == task => return Poll::Pending,
                Attempt::NotReady | Attempt::Nothing => {}
                Attempt::Moved(n) => {
                    self.waiting = 0;
                    return Poll::Ready(Ok(n));
                }
                Attempt::Failed(e) => {
                    self.waiting = 0;
                    return Poll::Ready(Err(e));
                }
            }
            self.waiting = 0;
            // where the budget is used up, tokio wakes the task later and registers nothing
            let registers = coop::has_budget_remaining();
            if self.kind.poll_ready(cx, Interest::READABLE)?.is_pending() {
                self.waiting = if registers { task } else { 0 };
                return Poll::Pending;
            }
        }
    }

    /// Writes at once what can be written at once; `None` where the socket must be waited for.
    #[inline]
    pub fn write_now(&self, bytes: &[u8]) -> Option<io::Result<usize>> {
        if let Kind::Ring(s) = &self.kind {
            return s.write_now(bytes);
        }
        let write = |fd: BorrowedFd<'_>| Ok((send(fd, bytes, SendFlags::NOSIGNAL)?, bytes.len()));
        match self.kind.attempt(Interest::WRITABLE, write) {
            Attempt::Moved(n) => Some(Ok(n)),
            Attempt::Failed(e) => Some(Err(e)),
            Attempt::Nothing | Attempt::NotReady => None,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        me.follow(cx)?;
        if let Kind::Ring(s) = &me.kind {
            let n = ready!(s.poll_into(cx, buf.initialize_unfilled()))?;
            buf.advance(n);
            return Poll::Ready(Ok(()));
        }
        let n = ready!(me.poll_with(cx, |fd| {
            let space = buf.initialize_unfilled();
            let of = space.len();
            recv(fd, space, RecvFlags::empty()).map(|(_, n)| (n, of))
        }))?;
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Kind::Ring(s) = &self.kind {
            return s.poll_write(cx, bytes);
        }
        loop {
            if let Some(written) = self.write_now(bytes) {
                return Poll::Ready(written);
            }
            ready!(self.kind.poll_ready(cx, Interest::WRITABLE))?;
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Kind::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Kind::Ring(s) => s.poll_shutdown(cx),
            Kind::Gone => Poll::Ready(Ok(())),
        }
    }
}
