//! Read buffers of one core: a connection holds one only while it has bytes to look at, so that an idle one costs none.

use std::cell::RefCell;

/// Bytes of a read buffer.
pub const SIZE: usize = 64 * 1024;
/// Buffers that a core keeps for reuse.
const KEPT: usize = 64;

/// A core's stock of read buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    free: RefCell<Vec<Box<[u8]>>>,
}

impl Buffers {
    /// A buffer of [`SIZE`] bytes; its content is arbitrary.
    #[must_use]
    pub fn take(&self) -> Box<[u8]> {
        self.free.borrow_mut().pop().unwrap_or_else(|| vec![0; SIZE].into_boxed_slice())
    }

    /// Takes a buffer back.
    pub fn give(&self, buffer: Box<[u8]>) {
        let mut free = self.free.borrow_mut();
        if free.len() < KEPT {
            free.push(buffer);
        }
    }
}
