//! Two ways for kernels to write: directly to the target, or through a store buffer.

use std::ops::Range;

use super::endpoints::Endpoints;
use super::processor::{Processor, copy_run};
use super::sizes::CACHE_LINE_BYTES;
use super::store_buffer::{Items, StoreBuffer};
use super::tiled_transpose::TiledTranspose;

/// Minimum size (bytes) of a run that bypasses the store buffer: its whole lines are written to the
/// target from where they are in the source. It has at least one.
const UNBUFFERED_RUN_MIN_BYTES: usize = 2 * CACHE_LINE_BYTES;

/// Where a kernel writes the elements that it has read.
pub(super) trait Sink {
    /// Writes items that are contiguous from `target` on. `write` is called with ranges of items,
    /// and with an address to write each range to.
    ///
    /// # Safety
    /// * `write` initializes all bytes of the items that it is asked for, and writes nothing else.
    /// * The items are writable from `target` on, and stay so until the copy is over.
    ///
    /// # Panics
    /// May panic where an item is larger than
    /// [`APPEND_MAX_BYTES`](super::store_buffer::APPEND_MAX_BYTES).
    unsafe fn write_items(
        &mut self,
        target: *mut u8,
        items: Items,
        write: impl FnMut(Range<usize>, *mut u8),
    );

    /// A function that prefetches memory that will be read soon, if the copy is large enough for
    /// it to help. Any address is allowed.
    fn prefetch(&self) -> Option<fn(*const u8)>;

    /// Copies `bytes` that are contiguous on both sides.
    ///
    /// # Safety
    /// * `bytes` are readable and writable there, none of them both, and stay so until the copy is
    ///   over.
    unsafe fn copy_run(&mut self, ends: Endpoints, bytes: usize);

    /// Transposes a matrix, after which another one may come: see
    /// [`TiledTranspose::copy_through`].
    ///
    /// # Safety
    /// * As for [`TiledTranspose::copy`]; the units stay readable and writable until the copy is
    ///   over.
    unsafe fn transpose(
        &mut self,
        matrix: &TiledTranspose,
        ends: Endpoints,
        next_source: isize,
        processor: &Processor,
    );
}

/// Writes directly to the target.
pub(super) struct Direct;

impl Sink for Direct {
    #[inline(always)]
    unsafe fn write_items(
        &mut self,
        target: *mut u8,
        items: Items,
        mut write: impl FnMut(Range<usize>, *mut u8),
    ) {
        write(0..items.count, target);
    }

    #[inline(always)]
    fn prefetch(&self) -> Option<fn(*const u8)> {
        None
    }

    #[inline(always)]
    unsafe fn copy_run(&mut self, ends: Endpoints, bytes: usize) {
        // SAFETY: the caller guarantees what the called function requires.
        unsafe { copy_run(ends.source, ends.target, bytes) };
    }

    #[inline]
    unsafe fn transpose(
        &mut self,
        matrix: &TiledTranspose,
        ends: Endpoints,
        _next_source: isize,
        processor: &Processor,
    ) {
        // SAFETY: the caller guarantees what the called function requires.
        unsafe { matrix.copy(ends, processor) };
    }
}

impl Sink for StoreBuffer<'_> {
    #[inline]
    unsafe fn write_items(
        &mut self,
        target: *mut u8,
        items: Items,
        write: impl FnMut(Range<usize>, *mut u8),
    ) {
        // SAFETY: the caller says the same of `write` and of `target`.
        unsafe { self.append(target, items, write) };
    }

    #[inline]
    fn prefetch(&self) -> Option<fn(*const u8)> {
        Some(self.stores().prefetch)
    }

    #[inline]
    unsafe fn copy_run(&mut self, ends: Endpoints, bytes: usize) {
        if bytes >= UNBUFFERED_RUN_MIN_BYTES {
            // SAFETY: the caller says that `bytes` are readable and writable there.
            return unsafe { self.copy_long_run(ends, bytes) };
        }
        // SAFETY: the caller says that `bytes` are readable; the buffer has `bytes` at `address`.
        let write = |_, address| unsafe { copy_run(ends.source, address, bytes) };
        // SAFETY: `write` initializes the one item; the caller says that it may be written there.
        unsafe { self.append(ends.target, Items { count: 1, bytes }, write) };
    }

    #[inline]
    unsafe fn transpose(
        &mut self,
        matrix: &TiledTranspose,
        ends: Endpoints,
        next_source: isize,
        processor: &Processor,
    ) {
        // SAFETY: the caller guarantees what the called function requires.
        unsafe { matrix.copy_through(ends, next_source, processor, self) };
    }
}
