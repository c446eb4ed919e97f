//! Two ways for kernels to write: directly to the target, or through a store buffer.

use std::ops::Range;

use super::endpoints::Endpoints;
use super::processor::{CACHED_STORES, Prefetch, Processor, Stores, copy_run};
use super::sizes::CACHE_LINE_BYTES;
use super::store_buffer::{Items, PART_BYTES, StoreBuffer};
use super::tiled_transpose::TiledTranspose;

/// Minimum size (bytes) of a run that bypasses the store buffer: its whole lines are written to the
/// target from where they are in the source. It has at least one.
const UNBUFFERED_RUN_MIN_BYTES: usize = 2 * CACHE_LINE_BYTES;

/// Where a kernel writes the elements that it has read.
pub(super) trait Sink {
    /// The functions that write whole cache lines to the target.
    fn stores(&self) -> &'static Stores;

    /// Whether the target is written with non-temporal stores.
    fn is_nontemporal(&self) -> bool {
        !std::ptr::eq(self.stores(), &CACHED_STORES)
    }

    /// Writes items that are contiguous from `target` on. `write` is called with ranges of items,
    /// and with an address to write each range to.
    ///
    /// # Safety
    /// * `write` initializes all bytes of the items that it is asked for, and writes nothing else.
    /// * The items are writable from `target` on, and stay so until the copy is over.
    ///
    /// # Panics
    /// May panic where an item is larger than [`PART_BYTES`].
    unsafe fn write_items(
        &mut self,
        target: *mut u8,
        items: Items,
        write: impl FnMut(Range<usize>, *mut u8),
    );

    /// A function that prefetches memory that will be read soon, if the copy is large enough for
    /// it to help. Any address is allowed.
    fn prefetch(&self) -> Option<Prefetch>;

    /// Copies `bytes` that are contiguous on both sides.
    ///
    /// # Safety
    /// * `bytes` are readable and writable there, none of them both, and stay so until the copy is
    ///   over.
    unsafe fn copy_run(&mut self, ends: Endpoints, bytes: usize);

    /// Transposes a matrix, or one band of it if there is a `band`, which only non-temporal stores
    /// allow. After it another one may come: see [`TiledTranspose::copy_through`].
    ///
    /// # Safety
    /// * As for [`TiledTranspose::copy`]; the units stay readable and writable until the copy is
    ///   over.
    unsafe fn transpose(
        &mut self,
        matrix: &TiledTranspose,
        ends: Endpoints,
        band: Option<usize>,
        next_source: isize,
        processor: &Processor,
    );
}

/// Writes directly to the target.
pub(super) struct Direct;

impl Sink for Direct {
    fn stores(&self) -> &'static Stores {
        &CACHED_STORES
    }

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
    fn prefetch(&self) -> Option<Prefetch> {
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
        _band: Option<usize>,
        _next_source: isize,
        processor: &Processor,
    ) {
        // SAFETY: the caller guarantees what the called function requires.
        unsafe { matrix.copy(ends, processor) };
    }
}

impl Sink for StoreBuffer<'_> {
    fn stores(&self) -> &'static Stores {
        Self::stores(self)
    }

    #[inline]
    unsafe fn write_items(
        &mut self,
        target: *mut u8,
        items: Items,
        write: impl FnMut(Range<usize>, *mut u8),
    ) {
        // SAFETY: the caller says the same of `write` and of `target`.
        unsafe { self.append(target, items, PART_BYTES, write) };
    }

    #[inline]
    fn prefetch(&self) -> Option<Prefetch> {
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
        unsafe { self.append(ends.target, Items { count: 1, bytes }, PART_BYTES, write) };
    }

    #[inline]
    unsafe fn transpose(
        &mut self,
        matrix: &TiledTranspose,
        ends: Endpoints,
        band: Option<usize>,
        next_source: isize,
        processor: &Processor,
    ) {
        // SAFETY: the caller guarantees what the called function requires.
        unsafe { matrix.copy_through(ends, band, next_source, processor, self) };
    }
}
