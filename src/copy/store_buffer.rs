//! A buffer between a kernel and the target.
//!
//! A kernel writes pieces of any size. Non-temporal stores are only fast for whole cache lines. So
//! the pieces are collected in this buffer, which fits the L2 cache, and are written to the target
//! in whole lines:
//!
//! ```text
//!   append:   | filled ........................ | new piece |      |
//!             ^ goes to `target`                ^ `reserve` returns this address
//!
//!   full:     | whole lines: sent | rest |    the rest moves to the front and waits for more
//!
//!   new piece does not continue the others in the target: everything is sent first (`flush`)
//! ```
//!
//! Long runs go straight to the target ([`StoreBuffer::copy_long_run`]). A transpose uses the empty
//! buffer as scratch memory instead ([`StoreBuffer::scratch`]).

use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;

use super::endpoints::Endpoints;
use super::processor::{Stores, copy_run};
use super::sizes::CACHE_LINE_BYTES;

/// Size (bytes) of the buffer: fits a second-level cache, and the stack of the copying thread.
pub(super) const STORE_BUFFER_BYTES: usize = 80 << 10;

/// Bytes of the buffer that are filled before whole lines are written to the target. They stay in
/// the first-level cache, and the kernel goes on while the memory takes the lines. 8 KiB
/// instead of 80 KiB were 5 to 14 % faster for most layouts, and as fast for loads of every second
/// byte.
const APPEND_BUFFER_BYTES: usize = 8 << 10;

/// Maximum size (bytes) of what a kernel writes to the buffer in one go.
pub(super) const APPEND_MAX_BYTES: usize = 16 << 10;

/// Size (bytes) of the parts in which most kernels write. The first part goes to memory while the
/// third one is written.
pub(super) const PART_BYTES: usize = APPEND_BUFFER_BYTES / 2;

/// Number of items, a power of two, by which parts are rounded down: kernels copy that many at once
/// with their longest vectors.
const PART_GRANULE: usize = 64;

/// Items that are contiguous in the target: `count` of `bytes` bytes each.
#[derive(Clone, Copy)]
pub(super) struct Items {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

/// Memory for a buffer. It is large, so it is only in the stack frame of copies that use the
/// buffer. It begins on a cache line.
#[repr(align(64))]
pub(super) struct StoreMemory(MaybeUninit<[u8; STORE_BUFFER_BYTES]>);

impl StoreMemory {
    /// Memory that is not initialized.
    #[inline(always)]
    pub(super) const fn new() -> Self {
        Self(MaybeUninit::uninit())
    }
}

/// The buffer.
///
/// Invariant: the first `filled` bytes of `memory` are initialized, go to `target`, and may be
/// written there.
pub(super) struct StoreBuffer<'a> {
    // Apart from the other fields, or setting these would clear the memory as well.
    memory: &'a mut StoreMemory,
    target: *mut u8,
    filled: usize,
    stores: &'static Stores,
}

impl<'a> StoreBuffer<'a> {
    /// An empty buffer, which writes to the target with these functions.
    pub(super) fn new(memory: &'a mut StoreMemory, stores: &'static Stores) -> Self {
        Self { memory, target: ptr::null_mut(), filled: 0, stores }
    }

    /// The functions that write to the target.
    #[inline]
    pub(super) fn stores(&self) -> &'static Stores {
        self.stores
    }

    /// Takes items that go to `target`. They are asked for in parts of at most `part_max` bytes,
    /// and of at most [`APPEND_MAX_BYTES`]: `write` gets the range of the items of a part, and the
    /// address to write them to.
    ///
    /// # Safety
    /// * `write` initializes all bytes of the items that it is asked for, and writes nothing else.
    /// * All items may be written to `target`, at the latest in [`finish`](Self::finish).
    ///
    /// # Panics
    /// Where a single item is larger than a part.
    #[inline]
    pub(super) unsafe fn append(
        &mut self,
        target: *mut u8,
        items: Items,
        part_max: usize,
        mut write: impl FnMut(Range<usize>, *mut u8),
    ) {
        let bytes = items.count * items.bytes;
        let part_max = part_max.min(APPEND_MAX_BYTES);
        if bytes <= part_max {
            // SAFETY: `bytes` was just compared; `write` initializes them, and the caller says that
            // they may be written to `target`.
            return write(0..items.count, unsafe { self.reserve(target, bytes) });
        }
        let fit = part_max / items.bytes;
        let part = if fit > PART_GRANULE { fit / PART_GRANULE * PART_GRANULE } else { fit };
        assert!(part > 0, "an item of {} bytes exceeds a part of the store buffer", items.bytes);
        for first in (0..items.count).step_by(part) {
            let count = part.min(items.count - first);
            let target = target.wrapping_add(first * items.bytes);
            // SAFETY: `part` items are at most `APPEND_MAX_BYTES`; `write` initializes them, the
            // caller says that they may be written to `target`.
            let address = unsafe { self.reserve(target, count * items.bytes) };
            write(first..first + count, address);
        }
    }

    /// Copies `bytes` that are contiguous on both sides. Whole lines of the target go there
    /// straight. Only the rest is put into the buffer, because another run may begin or end in the
    /// same line:
    ///
    /// ```text
    ///   lines of the target   |         |         |         |         |
    ///   runs                  ──────┤├─────────────────────┤├──────────
    ///   to the buffer           rest  head              rest  head
    ///   straight                          ───────────
    /// ```
    ///
    /// # Safety
    /// * `bytes` are readable and writable there, none of them both, at the latest in
    ///   [`finish`](Self::finish).
    #[inline]
    pub(super) unsafe fn copy_long_run(&mut self, ends: Endpoints, bytes: usize) {
        let head = ends.target.align_offset(CACHE_LINE_BYTES).min(bytes);
        let lines = (bytes - head) / CACHE_LINE_BYTES * CACHE_LINE_BYTES;
        // SAFETY: the first `head` of the caller's bytes.
        unsafe { self.append_bytes(ends, head) };
        self.flush();
        // SAFETY: `head` is at most `bytes`.
        let ends = unsafe { ends.offset(head as isize, head as isize) };
        // SAFETY: the whole lines after the head, which are among the caller's bytes.
        unsafe { (self.stores.copy)(ends.source, ends.target, lines) };
        // SAFETY: `head` and `lines` are together at most `bytes`.
        let ends = unsafe { ends.offset(lines as isize, lines as isize) };
        // SAFETY: the rest of the caller's bytes.
        unsafe { self.append_bytes(ends, bytes - head - lines) };
    }

    /// Puts less than a cache line into the buffer.
    ///
    /// # Safety
    /// * As for [`copy_long_run`](Self::copy_long_run).
    #[inline]
    unsafe fn append_bytes(&mut self, ends: Endpoints, bytes: usize) {
        if bytes > 0 {
            // SAFETY: the caller says that `bytes` are writable; they are less than a part of the
            // buffer, and are written at once.
            let address = unsafe { self.reserve(ends.target, bytes) };
            // SAFETY: the caller says that `bytes` are readable; the buffer has them at `address`.
            unsafe { copy_run(ends.source, address, bytes) };
        }
    }

    /// Where to write `bytes` that go to `target`.
    ///
    /// # Safety
    /// * `bytes` are at most [`APPEND_MAX_BYTES`], are initialized at the returned address before
    ///   any other method is called, and may be written to `target`.
    #[inline]
    unsafe fn reserve(&mut self, target: *mut u8, bytes: usize) -> *mut u8 {
        if self.target.wrapping_add(self.filled) != target {
            self.flush();
            self.target = target;
        } else if self.filled + bytes > APPEND_BUFFER_BYTES {
            // Bytes that do not fill a line stay in the buffer: all of them, if they began in it.
            let in_line = (self.target.addr() + self.filled) % CACHE_LINE_BYTES;
            let rest = in_line.min(self.filled);
            self.send(self.filled - rest);
        }
        // SAFETY: `filled + bytes` is at most the size of the memory: either that was just found,
        // or less than a cache line is left in it and the caller says that `bytes` is small.
        let address = unsafe { self.start().add(self.filled) };
        self.filled += bytes;
        address
    }

    /// The memory of the buffer, empty, as scratch space for `bytes`, which the caller writes to
    /// the target itself. It stays valid until another method is called.
    ///
    /// # Panics
    /// Where `bytes` exceed [`STORE_BUFFER_BYTES`].
    #[inline]
    pub(super) fn scratch(&mut self, bytes: usize) -> *mut u8 {
        assert!(bytes <= STORE_BUFFER_BYTES, "{bytes} bytes exceed the store buffer");
        self.flush();
        self.start()
    }

    /// Writes everything to the target, and orders the stores before later ones.
    pub(super) fn finish(&mut self) {
        self.flush();
        (self.stores.fence)();
    }

    fn start(&mut self) -> *mut u8 {
        self.memory.0.as_mut_ptr().cast()
    }

    fn flush(&mut self) {
        self.send(self.filled);
    }

    /// Writes the first `bytes` of the `filled` ones to the target.
    fn send(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let start = self.start();
        // SAFETY: the invariant says that `filled` bytes are initialized and may be written to
        // `target`; callers send at most these.
        unsafe { (self.stores.copy)(start, self.target, bytes) };
        self.target = self.target.wrapping_add(bytes);
        self.filled -= bytes;
        // SAFETY: `bytes` were in the memory, and so is what comes after them.
        let rest = unsafe { start.add(bytes) };
        // SAFETY: the `filled` bytes that are left move to the front of the same memory.
        unsafe { rest.copy_to(start, self.filled) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::processor::CACHED_STORES;

    /// A few bytes that begin and end within one line, before as many as are taken in one go.
    #[test]
    fn many_bytes_continue_a_few_within_a_line() {
        let mut target = vec![0; CACHE_LINE_BYTES + 60 + APPEND_MAX_BYTES];
        let first = target.as_ptr().align_offset(CACHE_LINE_BYTES) + 40;
        let mut memory = StoreMemory::new();
        let mut buffer = StoreBuffer::new(&mut memory, &CACHED_STORES);
        let mut at = target[first..].as_mut_ptr();
        for (value, bytes) in [(1, 3), (2, APPEND_MAX_BYTES)] {
            // SAFETY: the buffer has room for the one item at `address`.
            let write = |_, address: *mut u8| unsafe { address.write_bytes(value, bytes) };
            let items = Items { count: 1, bytes };
            // SAFETY: `write` initializes the item, and the target has room for both of them.
            unsafe { buffer.append(at, items, APPEND_MAX_BYTES, write) };
            at = at.wrapping_add(bytes);
        }
        buffer.finish();
        let written = &target[first..][..3 + APPEND_MAX_BYTES];
        assert!(written[..3].iter().all(|&byte| byte == 1));
        assert!(written[3..].iter().all(|&byte| byte == 2));
    }
}
