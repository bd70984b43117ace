//! The buffers that the kernel fills: it takes one when bytes have come, so that a connection that waits costs none. Source:
//! io_uring_register_buf_ring(3).
#![expect(unsafe_code, reason = "memory that is shared with the kernel")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Bytes of a buffer: what MariaDB and MySQL write at once of a long result.
pub(super) const SIZE: u32 = 16 * 1024;
/// Buffers of a core (a power of two); pages that nothing was written to cost no memory.
const COUNT: u16 = 256;
/// The ring's only group of buffers.
pub(super) const GROUP: u16 = 0;
const PAGE: usize = 4096;

/// A core's buffers, and the ring of those that the kernel may fill.
pub(super) struct Provided {
    entries: NonNull<BufRingEntry>,
    data: NonNull<u8>,
    tail: Cell<u16>,
}

/// Bytes that came: in a buffer that is this value's until [`Provided::give_back`].
#[derive(Debug)]
pub(super) struct Chunk {
    buffer: u16,
    start: u32,
    end: u32,
}

impl Chunk {
    /// The kernel has written `length` bytes into `buffer`.
    pub(super) fn new(buffer: u16, length: u32) -> Chunk {
        Chunk { buffer, start: 0, end: length.min(SIZE) }
    }

    /// Bytes left of it.
    pub(super) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// The first `n` of them were taken.
    pub(super) fn consume(&mut self, n: usize) {
        self.start = self.start.saturating_add(u32::try_from(n).unwrap_or(SIZE)).min(self.end);
    }
}

fn layouts() -> Option<(Layout, Layout)> {
    let entries = Layout::from_size_align(usize::from(COUNT) * size_of::<BufRingEntry>(), PAGE).ok()?;
    let data = Layout::from_size_align(usize::from(COUNT) * SIZE as usize, PAGE).ok()?;
    Some((entries, data))
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layouts of `layouts` are not empty
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Provided {
    /// Registers the buffers with the ring of `submitter`, which must be closed before this value is dropped.
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Provided> {
        let (entries, data) = layouts().ok_or(io::ErrorKind::OutOfMemory)?;
        let (entries, data) = (allocate(entries).cast::<BufRingEntry>(), allocate(data));
        let provided = Provided { entries, data, tail: Cell::new(0) };
        // SAFETY: page-aligned memory of COUNT entries, which lives until after the ring
        unsafe { submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, COUNT, GROUP, 0) }?;
        for buffer in 0..COUNT {
            provided.offer(buffer);
        }
        Ok(provided)
    }

    /// The kernel may fill `buffer`.
    fn offer(&self, buffer: u16) {
        let tail = self.tail.get();
        // SAFETY: `buffer` and the index are below COUNT; the kernel reads an entry only once the tail is behind it
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(usize::from(tail % COUNT));
            entry.set_addr(self.data.as_ptr().add(usize::from(buffer % COUNT) * SIZE as usize) as u64);
            entry.set_len(SIZE);
            entry.set_bid(buffer);
        }
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the tail stands in the first entry, is aligned, and is written here alone
        let shared = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        shared.store(self.tail.get(), Ordering::Release);
    }

    /// What came.
    pub(super) fn bytes(&self, chunk: &Chunk) -> &[u8] {
        let start = usize::from(chunk.buffer % COUNT) * SIZE as usize + chunk.start as usize;
        // SAFETY: inside the buffer, which the kernel has written to and gave to this chunk
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().add(start), chunk.len()) }
    }

    /// The kernel may fill the chunk's buffer again.
    pub(super) fn give_back(&self, chunk: Chunk) {
        self.offer(chunk.buffer);
    }
}

impl Drop for Provided {
    fn drop(&mut self) {
        if let Some((entries, data)) = layouts() {
            // SAFETY: allocated with these layouts; the ring is closed
            unsafe {
                dealloc(self.entries.as_ptr().cast(), entries);
                dealloc(self.data.as_ptr(), data);
            }
        }
    }
}
