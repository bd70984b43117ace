//! A socket of a ring, as [`super::super::Socket`] uses it.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::provided::Provided;
use super::slot::{End, Receiving, Slot};
use super::{Ring, WAITING};
use crate::net::buffer::Input;

/// A connected socket, without its owner's ways to wait for it.
#[derive(Debug)]
pub(crate) enum Plain {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl AsFd for Plain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Plain::Tcp(s) => s.as_fd(),
            Plain::Unix(s) => s.as_fd(),
        }
    }
}

/// Writes of more bytes are system calls of their own.
const LARGE: usize = 16 * 1024;

/// A socket whose bytes pass through a [`Ring`].
#[derive(Debug)]
pub(crate) struct RingSocket {
    ring: Rc<Ring>,
    slot: u32,
    /// `None` once the slot has it.
    plain: Option<Plain>,
    reset: Cell<bool>,
}

impl RingSocket {
    /// Takes a connected socket over.
    ///
    /// # Errors
    /// The socket has failed.
    pub(in crate::net) fn new(plain: Plain, ring: &Rc<Ring>) -> io::Result<RingSocket> {
        // the kernel would not wait for a socket that is not to be waited for
        rustix::io::ioctl_fionbio(&plain, false)?;
        let slot = ring.state.borrow_mut().add(plain.as_fd().as_raw_fd());
        Ok(RingSocket { ring: Rc::clone(ring), slot, plain: Some(plain), reset: Cell::new(false) })
    }

    /// Takes it off the ring, unless the kernel still works on something, or something waits to be read.
    pub(in crate::net) fn into_plain(mut self) -> Result<Plain, RingSocket> {
        let mut state = self.ring.state.borrow_mut();
        let Some(slot) = state.slot(self.slot) else {
            drop(state);
            return Err(self);
        };
        if slot.receiving != Receiving::Nothing {
            state.stop_receiving(self.slot);
            drop(state);
            self.ring.wake();
            return Err(self);
        }
        if !slot.chunks.is_empty() || !slot.all_sent() || slot.end.is_some() || slot.failed.is_some() {
            drop(state);
            return Err(self);
        }
        // (the slot is given up last: from then on it may be another socket's)
        let plain = self.plain.take_if(|plain| rustix::io::ioctl_fionbio(plain, true).is_ok());
        if plain.is_some() {
            state.release(self.slot);
        }
        drop(state);
        plain.ok_or(self)
    }

    pub(in crate::net) fn is_unix(&self) -> bool {
        matches!(self.plain, Some(Plain::Unix(_)))
    }

    pub(in crate::net) fn peer_address(&self) -> Option<SocketAddr> {
        match &self.plain {
            Some(Plain::Tcp(s)) => s.peer_addr().ok(),
            _ => None,
        }
    }

    pub(in crate::net) fn reset_on_drop(&self) {
        if let Some(Plain::Tcp(s)) = &self.plain {
            self.reset.set(rustix::net::sockopt::set_socket_linger(s, Some(Duration::ZERO)).is_ok());
        }
    }

    /// Reads what there is into `input`; 0 bytes mean that the peer closed, or that there is no space.
    #[inline]
    pub(in crate::net) fn poll_recv(&self, cx: &Context<'_>, input: &mut Input) -> Poll<io::Result<usize>> {
        if !self.may_have_bytes(cx) {
            return Poll::Pending;
        }
        let read = self.poll_take(cx, input.space());
        input.filled(match &read {
            Poll::Ready(Ok(n)) => *n,
            _ => 0,
        });
        read
    }

    /// Whether a read may find something; if not, the task is woken when something comes.
    #[inline]
    fn may_have_bytes(&self, cx: &Context<'_>) -> bool {
        let mut state = self.ring.state.borrow_mut();
        let Some(slot) = state.slot(self.slot) else { return true };
        if !slot.chunks.is_empty() || slot.end.is_some() {
            return true;
        }
        if slot.receiving == Receiving::Nothing {
            if slot.loud > 0 {
                return true;
            }
            slot.reader.park(cx);
            state.receive(self.slot);
            drop(state);
            self.ring.wake();
        } else {
            slot.reader.park(cx);
        }
        false
    }

    /// Reads what there is into `space`.
    pub(in crate::net) fn poll_into(&self, cx: &Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.may_have_bytes(cx) { self.poll_take(cx, space) } else { Poll::Pending }
    }

    fn poll_take(&self, cx: &Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.ring.state.borrow_mut();
        let super::State { slots, provided, .. } = &mut *state;
        let Some(slot) = slots.get_mut(self.slot as usize) else { return Poll::Ready(Ok(0)) };
        let n = take(slot, provided, space);
        if n > 0 || space.is_empty() {
            return Poll::Ready(Ok(n));
        }
        if let Some(end) = slot.end {
            return Poll::Ready(end.result());
        }
        slot.reader.park(cx);
        if slot.receiving == Receiving::Nothing {
            state.receive(self.slot);
            drop(state);
            self.ring.wake();
        }
        Poll::Pending
    }

    /// Writes at once what can be written at once, or be kept for the next turn; `None` where it must be waited for.
    #[inline]
    pub(in crate::net) fn write_now(&self, bytes: &[u8]) -> Option<io::Result<usize>> {
        let mut state = self.ring.state.borrow_mut();
        let slot = state.slot(self.slot)?;
        if let Some(errno) = slot.failed {
            return Some(Err(io::Error::from_raw_os_error(errno)));
        }
        if slot.all_sent() && bytes.len() > LARGE {
            drop(state);
            return self.write_by_itself(bytes);
        }
        if slot.out.len() + bytes.len() > WAITING {
            return None;
        }
        state.write(self.slot, bytes);
        drop(state);
        self.ring.wake();
        Some(Ok(bytes.len()))
    }

    fn write_by_itself(&self, bytes: &[u8]) -> Option<io::Result<usize>> {
        let plain = self.plain.as_ref()?;
        loop {
            match send(plain, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                done => return Some(done.map_err(Into::into)),
            }
        }
    }

    /// Writes some of the bytes; waits while there are too many that the peer did not read.
    pub(in crate::net) fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(written) = self.write_now(bytes) {
            return Poll::Ready(written);
        }
        let mut state = self.ring.state.borrow_mut();
        let Some(slot) = state.slot(self.slot) else { return Poll::Ready(Ok(0)) };
        let n = bytes.len().min(WAITING.saturating_sub(slot.out.len()));
        if n == 0 {
            slot.writer.park(cx);
            return Poll::Pending;
        }
        state.write(self.slot, bytes.get(..n).unwrap_or_default());
        drop(state);
        self.ring.wake();
        Poll::Ready(Ok(n))
    }

    /// Ends what is written, after all that was.
    pub(in crate::net) fn poll_shutdown(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.ring.state.borrow_mut();
        if let Some(slot) = state.slot(self.slot)
            && !slot.all_sent()
        {
            slot.writer.park(cx);
            return Poll::Pending;
        }
        Poll::Ready(match &self.plain {
            Some(Plain::Tcp(s)) => s.shutdown(Shutdown::Write),
            Some(Plain::Unix(s)) => s.shutdown(Shutdown::Write),
            None => Ok(()),
        })
    }

    /// Begins to receive.
    pub(super) fn listen(&self) {
        self.ring.state.borrow_mut().receive(self.slot);
    }

    /// Whether something has come.
    pub(super) fn has_bytes(&self) -> bool {
        self.ring.state.borrow_mut().slot(self.slot).is_some_and(|slot| !slot.chunks.is_empty())
    }
}

/// Takes what came, and what there is besides where that is much; 0 bytes for nothing.
fn take(slot: &mut Slot, provided: &Provided, space: &mut [u8]) -> usize {
    let mut n = 0;
    while let Some(chunk) = slot.chunks.front_mut() {
        let part = chunk.len().min(space.len() - n);
        if let (Some(to), Some(from)) = (space.get_mut(n..n + part), provided.bytes(chunk).get(..part)) {
            to.copy_from_slice(from);
        }
        n += part;
        chunk.consume(part);
        if chunk.len() > 0 {
            return n;
        }
        if let Some(chunk) = slot.chunks.pop_front() {
            provided.give_back(chunk);
        }
    }
    if slot.loud == 0 || slot.receiving != Receiving::Nothing || slot.end.is_some() {
        return n;
    }
    let Some(rest) = space.get_mut(n..).filter(|rest| !rest.is_empty()) else { return n };
    n + read_by_itself(slot, rest)
}

fn read_by_itself(slot: &mut Slot, space: &mut [u8]) -> usize {
    // SAFETY: the descriptor is open: only the slot's owner reads, and it has the socket
    #[expect(unsafe_code, reason = "the socket's owner lends its descriptor to the slot")]
    let fd = unsafe { BorrowedFd::borrow_raw(slot.fd) };
    match recv(fd, space, RecvFlags::DONTWAIT) {
        Ok((_, 0)) => slot.end = Some(End::Closed),
        Ok((_, n)) => {
            slot.read(n);
            return n;
        }
        Err(Errno::AGAIN | Errno::INTR) => slot.read(0),
        Err(e) => slot.end = Some(End::Failed(e.raw_os_error())),
    }
    0
}

impl Drop for RingSocket {
    fn drop(&mut self) {
        // (at the end of its thread the ring may be in use: then its own end closes the socket)
        if let (Some(plain), Ok(mut state)) = (self.plain.take(), self.ring.state.try_borrow_mut()) {
            state.leave(self.slot, plain, self.reset.get());
        }
    }
}
