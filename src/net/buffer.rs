//! Read buffers of one core: a connection holds one only while it has bytes to look at, so that an idle one costs none.

use std::cell::{Cell, RefCell};

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
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffers").field("free", &self.free.borrow().len()).finish_non_exhaustive()
    }
}

impl Buffers {
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
