//! What the ring knows of one socket: bytes that came, bytes that go, and what the kernel still works on.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Waker};

use super::provided::{Chunk, SIZE};
use super::socket::Plain;

/// Bytes that wait to be sent, at most: what is beyond makes the writer wait.
pub(super) const WAITING: usize = 64 * 1024;
/// Chunks of a socket that nobody reads, after which no more are asked for.
const UNREAD: usize = 8;
/// Short reads after which a socket is quiet again.
const QUIET: u8 = 4;

/// Which receive operation the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiving {
    Nothing,
    /// It gives one buffer, and ends.
    Once,
    /// It gives a buffer whenever bytes come.
    Always,
    /// The same, and it was told to end.
    Ending,
}

/// No more bytes will come.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Closed,
    Failed(i32),
}

impl End {
    pub(super) fn result(self) -> io::Result<usize> {
        match self {
            End::Closed => Ok(0),
            End::Failed(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// The task that waits for something.
#[derive(Debug, Default)]
pub(super) struct Parked {
    waker: Option<Waker>,
    waits: bool,
}

impl Parked {
    #[inline]
    pub(super) fn park(&mut self, cx: &Context<'_>) {
        self.waits = true;
        match &mut self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
    }

    #[inline]
    pub(super) fn wake(&mut self) {
        if std::mem::take(&mut self.waits)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }
}

/// One socket of the ring.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) fd: i32,
    pub(super) receiving: Receiving,
    pub(super) chunks: VecDeque<Chunk>,
    pub(super) end: Option<End>,
    /// Above 0 where long results pass, or buffers ran out: it is read by plain system calls, into large buffers.
    pub(super) loud: u8,
    pub(super) reader: Parked,
    pub(super) writer: Parked,
    /// Bytes that go with the next operation.
    pub(super) out: Vec<u8>,
    /// The slot is on the list of those that have some.
    pub(super) listed: bool,
    /// Bytes that the kernel sends, and how many it has sent.
    pub(super) sending: Vec<u8>,
    pub(super) sent: usize,
    /// Whether it has the operation.
    pub(super) in_flight: bool,
    pub(super) failed: Option<i32>,
    /// The socket itself, once its owner has dropped it: it is closed when all was sent.
    pub(super) left: Option<Plain>,
    /// Seconds since then.
    pub(super) age: u8,
}

impl Slot {
    pub(super) fn new(fd: i32) -> Slot {
        Slot {
            fd,
            receiving: Receiving::Nothing,
            chunks: VecDeque::new(),
            end: None,
            loud: 0,
            reader: Parked::default(),
            writer: Parked::default(),
            out: Vec::new(),
            listed: false,
            sending: Vec::new(),
            sent: 0,
            in_flight: false,
            failed: None,
            left: None,
            age: 0,
        }
    }

    /// Takes note of a chunk; whether the kernel must be told to give no more for now.
    pub(super) fn came(&mut self, chunk: Chunk) -> bool {
        self.read(chunk.len());
        self.chunks.push_back(chunk);
        self.receiving == Receiving::Always && (self.loud == QUIET || self.chunks.len() >= UNREAD)
    }

    /// So many bytes came by one read.
    pub(super) fn read(&mut self, n: usize) {
        self.loud = if n >= SIZE as usize { QUIET } else { self.loud.saturating_sub(1) };
    }

    /// Nothing waits to be sent.
    #[inline]
    pub(super) fn all_sent(&self) -> bool {
        !self.in_flight && self.out.is_empty()
    }

    /// Its owner has gone, and the kernel works on nothing of it.
    pub(super) fn is_over(&self) -> bool {
        self.left.is_some() && self.receiving == Receiving::Nothing && self.all_sent()
    }
}
