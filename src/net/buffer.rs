//! What the connections of one core share. Read buffers: a connection holds one only while it has bytes to look at, so that an idle
//! one costs none. With them go the core's ring, and the count of the commands that came, which tells the reader of a long result
//! whether others share its core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::ring::{LOOK, Ring};

/// Bytes of a read buffer.
pub const SIZE: usize = 64 * 1024;
/// Buffers that a core keeps for reuse.
const KEPT: usize = 64;

/// A core's stock of read buffers.
#[derive(Default)]
pub struct Buffers {
    /// The one that came back last: it is warm, and mostly all that is needed.
    last: Cell<Option<Box<[u8]>>>,
    free: RefCell<Vec<Box<[u8]>>>,
    commands: Cell<u64>,
    /// Clients that sent the last of them.
    clients: Cell<u32>,
    /// What the sockets are read and written with; `None`: epoll.
    ring: Option<Rc<Ring>>,
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffers").field("free", &self.free.borrow().len()).finish_non_exhaustive()
    }
}

impl Buffers {
    /// Those of a core whose sockets use `ring`.
    #[must_use]
    pub fn with_ring(ring: Option<Rc<Ring>>) -> Buffers {
        Buffers { ring, ..Buffers::default() }
    }

    /// The core's ring.
    #[must_use]
    pub fn ring(&self) -> Option<&Rc<Ring>> {
        self.ring.as_ref()
    }

    /// A client of this core has sent a command; `last` is what its connection keeps for this.
    #[inline]
    pub fn command_came(&self, last: &mut u64) {
        let commands = self.commands.get().wrapping_add(1);
        self.commands.set(commands);
        let Some(ring) = &self.ring else { return };
        // which of the looks at the core this command counts for
        let look = commands / LOOK + 1;
        if std::mem::replace(last, look) != look {
            self.clients.set(self.clients.get() + 1);
        }
        if commands.is_multiple_of(LOOK) {
            ring.look(self.clients.replace(0));
        }
    }

    /// Commands that came so far.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.commands.get()
    }

    /// A buffer of [`SIZE`] bytes; its content is arbitrary.
    #[must_use]
    #[inline]
    pub fn take(&self) -> Box<[u8]> {
        self.last.take().unwrap_or_else(|| self.another())
    }

    #[cold]
    fn another(&self) -> Box<[u8]> {
        self.free.borrow_mut().pop().unwrap_or_else(|| vec![0; SIZE].into_boxed_slice())
    }

    /// Takes a buffer back.
    #[inline]
    pub fn give(&self, buffer: Box<[u8]>) {
        if let Some(before) = self.last.replace(Some(buffer)) {
            self.keep(before);
        }
    }

    fn keep(&self, buffer: Box<[u8]>) {
        let mut free = self.free.borrow_mut();
        if free.len() < KEPT {
            free.push(buffer);
        }
    }
}

/// The bytes that a connection has read and not consumed, in a buffer that it has only while there are any.
#[derive(Debug)]
pub struct Input {
    buffers: Rc<Buffers>,
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Drop for Input {
    fn drop(&mut self) {
        if let Some(b) = self.buffer.take() {
            self.buffers.give(b);
        }
    }
}

impl Input {
    /// Nothing yet.
    #[must_use]
    pub fn new(buffers: Rc<Buffers>) -> Input {
        Input { buffers, buffer: None, start: 0, end: 0 }
    }

    /// The core's stock.
    #[must_use]
    pub fn buffers(&self) -> &Rc<Buffers> {
        &self.buffers
    }

    /// What was read and not consumed.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.as_deref().and_then(|b| b.get(self.start..self.end)).unwrap_or_default()
    }

    /// The same, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start, self.end);
        self.buffer.as_deref_mut().and_then(|b| b.get_mut(start..end)).unwrap_or_default()
    }

    /// Drops the first `n` bytes.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        self.settle();
    }

    /// Space behind the bytes, for a read; empty when the buffer is full. [`Input::filled`] follows, whatever the read came to.
    #[inline]
    pub fn space(&mut self) -> &mut [u8] {
        let buffer = self.buffer.get_or_insert_with(|| self.buffers.take());
        if self.start > 0 && self.end == buffer.len() {
            buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// `n` bytes were read into [`Input::space`].
    #[inline]
    pub fn filled(&mut self, n: usize) {
        self.end += n;
        self.settle();
    }

    /// An empty buffer goes back to the core.
    #[inline]
    fn settle(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if let Some(b) = self.buffer.take() {
                self.buffers.give(b);
            }
        }
    }
}
