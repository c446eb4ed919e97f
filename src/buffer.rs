//! Allocation of host memory.

use std::alloc::{Layout as Allocation, alloc, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::{Error, Result};

/// Alignment (bytes) of memory that this crate allocates. DLPack recommends 256 bytes; JAX needs 64
/// to use memory without a copy.
pub(crate) const ALIGNMENT_BYTES: usize = 256;

/// Minimum size (bytes) of a buffer for asking the system for huge pages. With small pages, the
/// first touch of a large buffer takes longer than filling it.
const HUGE_PAGE_MIN_BYTES: usize = 4 << 20;

/// Minimum size (bytes) of an allocation from another allocator for asking for huge pages. glibc
/// maps allocations of this size apart from its heap. In a heap, huge pages do harm: when the heap
/// gives back a part of one, the system has to split the page, which takes long.
const ADVISE_MIN_BYTES: usize = 32 << 20;

/// Size and alignment (bytes) of a huge page.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Host memory that this crate allocated.
pub(crate) struct Buffer {
    data: NonNull<u8>,
    /// The beginning of the allocation: the address of the data, or a lower one.
    start: NonNull<u8>,
    allocation: Allocation,
}

// SAFETY: only the buffer reaches its memory, and memory may be used and freed on any thread.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Allocates memory with unspecified content.
    pub(crate) fn uninit(bytes: usize) -> Result<Self> {
        let allocation = Allocation::from_size_align(bytes.max(1), alignment(bytes));
        // SAFETY: `alloc` requires a size above 0; it is at least 1 by `max`.
        Self::allocated(bytes, allocation.ok(), |allocation| unsafe { alloc(allocation) })
    }

    /// Allocates memory full of zeros. The system provides large memory as zeros, so that it is not
    /// written here.
    pub(crate) fn zeroed(bytes: usize) -> Result<Self> {
        // With a larger alignment than their own, allocators write the zeros themselves. So the
        // memory is allocated without one, and aligned below.
        let allocation_size = bytes.max(1).saturating_add(alignment(bytes));
        let allocation = Allocation::from_size_align(allocation_size, 1);
        // SAFETY: `alloc_zeroed` requires a size above 0; it is at least 1 by `max`.
        Self::allocated(bytes, allocation.ok(), |allocation| unsafe { alloc_zeroed(allocation) })
    }

    /// Gets memory for `bytes` from `allocate`. Either `allocation` has the alignment of a buffer
    /// of `bytes`, or its size exceeds `bytes` by that alignment.
    fn allocated(
        bytes: usize,
        allocation: Option<Allocation>,
        allocate: impl FnOnce(Allocation) -> *mut u8,
    ) -> Result<Self> {
        let out_of_memory = Error::OutOfMemory { bytes };
        let Some(allocation) = allocation else { return Err(out_of_memory) };
        let Some(start) = NonNull::new(allocate(allocation)) else { return Err(out_of_memory) };
        let alignment = alignment(bytes);
        let skipped = start.addr().get().wrapping_neg() % alignment;
        // SAFETY: `skipped` bytes lie within the allocation: `skipped` is 0 if the allocation is
        // aligned, and otherwise the allocation is larger than `bytes` by the alignment.
        let data = unsafe { start.add(skipped) };
        if bytes >= HUGE_PAGE_MIN_BYTES {
            advise(data.as_ptr(), bytes);
        }
        Ok(Self { data, start, allocation })
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.data.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: `allocated` got `start` from the allocator with `allocation` as its layout, and
        // this is the only call: a buffer is dropped once.
        unsafe { dealloc(self.start.as_ptr(), self.allocation) }
    }
}

/// Returns the alignment (bytes) of a buffer of `bytes` bytes.
fn alignment(bytes: usize) -> usize {
    if bytes >= HUGE_PAGE_MIN_BYTES { HUGE_PAGE_BYTES } else { ALIGNMENT_BYTES }
}

/// Asks for huge pages in new memory from another allocator, if it is large enough.
pub(crate) fn advise_huge_pages(data: *mut u8, bytes: usize) {
    if bytes >= ADVISE_MIN_BYTES {
        advise(data, bytes);
    }
}

/// Asks the system for huge pages.
#[cfg(target_os = "linux")]
fn advise(data: *mut u8, bytes: usize) {
    const PAGE_BYTES: usize = 4 << 10;
    let skipped = data.align_offset(PAGE_BYTES);
    let whole = bytes.saturating_sub(skipped) / PAGE_BYTES * PAGE_BYTES;
    // SAFETY: the range consists of whole pages within the memory, by the arithmetic above, and
    // `MADV_HUGEPAGE` changes no content. The memory works with small pages if the call fails.
    unsafe { libc::madvise(data.wrapping_add(skipped).cast(), whole, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise(_data: *mut u8, _bytes: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_refuse_the_impossible() {
        for make in [Buffer::uninit, Buffer::zeroed] {
            for bytes in [0, 3, HUGE_PAGE_MIN_BYTES] {
                let buffer = make(bytes).expect("a little memory");
                assert_eq!(buffer.as_ptr().addr() % alignment(bytes), 0);
                // SAFETY: these bytes were just allocated.
                unsafe { buffer.as_ptr().write_bytes(1, bytes) };
            }
            for bytes in [isize::MAX as usize, usize::MAX] {
                assert_eq!(make(bytes).err(), Some(Error::OutOfMemory { bytes }));
            }
        }
    }

    #[test]
    fn zeros_are_zeros_in_used_memory_too() {
        for bytes in [1, 1000, HUGE_PAGE_MIN_BYTES] {
            let dirty = Buffer::uninit(bytes).expect("a little memory");
            // SAFETY: these bytes were just allocated.
            unsafe { dirty.as_ptr().write_bytes(0xff, bytes) };
            drop(dirty);
            let buffer = Buffer::zeroed(bytes).expect("a little memory");
            // SAFETY: these bytes were allocated, and zeroed.
            let zeros = unsafe { std::slice::from_raw_parts(buffer.as_ptr(), bytes) };
            assert!(zeros.iter().all(|&byte| byte == 0));
        }
    }
}
