//! One allocation of host memory.

use std::alloc::{Layout as Allocation, alloc, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use super::{forks, pages};
use pages::HUGE_PAGE_BYTES;

/// Alignment (bytes) of memory that this crate allocates. DLPack recommends 256 bytes; JAX needs 64
/// to use memory without a copy.
const ALIGNMENT_BYTES: usize = 256;

/// Minimum size (bytes) of a large block. Large blocks begin at a huge page, ask the system for
/// huge pages, and may be kept for later buffers. With small pages, the first touch of a large
/// block takes longer than filling it.
pub(super) const LARGE_MIN_BYTES: usize = HUGE_PAGE_BYTES;

/// Memory from the global allocator, which is given back when the block is dropped.
///
/// Invariant: the bytes from `data` on, `bytes` of them, lie within the allocation. Only the block
/// reaches them.
pub(super) struct Block {
    data: NonNull<u8>,
    bytes: usize,
    /// The beginning of the allocation: the address of the data, or a lower one.
    start: NonNull<u8>,
    allocation: Allocation,
    /// The number of forks when the block was allocated.
    forks: u32,
    /// Whether the block was used by an earlier buffer.
    is_warm: bool,
}

// SAFETY: only the block reaches its memory, and memory may be used and freed on any thread.
unsafe impl Send for Block {}

impl Block {
    /// Allocates memory with unspecified content, or returns `None` if there is none.
    ///
    /// A small block is allocated without an alignment, and `new` skips bytes. For an alignment,
    /// glibc takes longer: it splits a larger block, and frees both ends.
    pub(super) fn uninit(bytes: usize) -> Option<Self> {
        let bytes = Self::size_for(bytes);
        let allocation = match bytes < LARGE_MIN_BYTES {
            true => Allocation::from_size_align(bytes + alignment(bytes), 1).ok()?,
            false => Allocation::from_size_align(bytes, alignment(bytes)).ok()?,
        };
        // SAFETY: `alloc` requires a size above 0; `size_for` returns at least 1.
        let start = NonNull::new(unsafe { alloc(allocation) })?;
        // SAFETY: `alloc` returned the start of this allocation, which is larger than `bytes` by
        // the alignment, or has the alignment.
        Some(unsafe { Self::new(bytes, start, allocation) })
    }

    /// Allocates memory full of zeros, or returns `None` if there is none. The system provides
    /// large memory as zeros, so that it is not written here.
    pub(super) fn zeroed(bytes: usize) -> Option<Self> {
        let bytes = Self::size_for(bytes);
        // With a larger alignment than their own, allocators write the zeros themselves. So the
        // memory is allocated without one, and `new` skips bytes, also for large blocks.
        let allocation = bytes.checked_add(alignment(bytes))?;
        let allocation = Allocation::from_size_align(allocation, 1).ok()?;
        // SAFETY: `alloc_zeroed` requires a size above 0; `size_for` returns at least 1.
        let start = NonNull::new(unsafe { alloc_zeroed(allocation) })?;
        // SAFETY: `alloc_zeroed` returned the start of this allocation, which is larger than
        // `bytes` by the alignment.
        Some(unsafe { Self::new(bytes, start, allocation) })
    }

    /// # Safety
    /// * The global allocator returned `start` for `allocation`, and no other code has it.
    /// * Either `start` has the alignment of a block of `bytes`, and `allocation` has `bytes`
    ///   bytes, or `allocation` is larger than `bytes` by that alignment.
    unsafe fn new(bytes: usize, start: NonNull<u8>, allocation: Allocation) -> Self {
        let skipped = start.addr().get().wrapping_neg() % alignment(bytes);
        // SAFETY: `skipped` bytes lie within the allocation: `skipped` is 0 if `start` is aligned,
        // and the caller guarantees that the allocation is otherwise larger by the alignment.
        let data = unsafe { start.add(skipped) };
        if bytes >= LARGE_MIN_BYTES {
            forks::start_counting();
            pages::prefer_huge_pages(data.as_ptr(), bytes);
        }
        Self { data, bytes, start, allocation, forks: forks::count(), is_warm: false }
    }

    /// Returns the size of a new block for a buffer of `bytes` bytes: whole huge pages, if these
    /// are at most an eighth larger.
    pub(super) fn size_for(bytes: usize) -> usize {
        match bytes.checked_next_multiple_of(HUGE_PAGE_BYTES) {
            Some(whole) if whole - bytes <= bytes / 8 => whole.max(1),
            _ => bytes.max(1),
        }
    }

    /// Returns the address of the memory. Large blocks begin at a huge page, and all others are
    /// aligned to [`ALIGNMENT_BYTES`].
    #[inline]
    pub(super) fn data(&self) -> NonNull<u8> {
        self.data
    }

    /// Returns the size (bytes) of the memory, which may exceed that of the buffer in it.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an earlier buffer used the memory. The memory's pages are likely to be present.
    #[inline]
    pub(super) fn is_warm(&self) -> bool {
        self.is_warm
    }

    /// Whether the process has forked since the block was allocated.
    pub(super) fn is_from_before_fork(&self) -> bool {
        self.forks != forks::count()
    }

    /// Gives up the content, for another buffer.
    pub(super) fn into_warm(mut self) -> Self {
        self.is_warm = true;
        self
    }

    /// Gives up the content, and lets the system take the pages when it runs short. Returns `None`,
    /// and gives the block back to the allocator, if the system refuses.
    pub(super) fn into_reclaimable(self) -> Option<Self> {
        // SAFETY: only the block reaches its memory, and this method gives up the content.
        let is_reclaimable = unsafe { pages::make_reclaimable(self.data, self.bytes) };
        is_reclaimable.then_some(self)
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `uninit` or `zeroed` got `start` from the allocator with `allocation` as its
        // layout, and this is the only call: a block is dropped once.
        unsafe { dealloc(self.start.as_ptr(), self.allocation) }
    }
}

/// Returns the alignment (bytes) of a block of `bytes` bytes.
fn alignment(bytes: usize) -> usize {
    if bytes >= LARGE_MIN_BYTES { HUGE_PAGE_BYTES } else { ALIGNMENT_BYTES }
}
