//! Fresh host memory.

use std::alloc::{Layout as Allocation, alloc, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::{Error, Result};

/// Alignment of memory that this crate allocates: what JAX needs to share it, and DLPack's own
/// wish. In bytes.
pub(crate) const ALIGNMENT: usize = 256;

/// From so many bytes on memory comes in huge pages, where the system has them: with small ones, the
/// first touch of a large buffer takes longer than filling it.
const LARGE: usize = 4 << 20;

/// What huge pages are aligned to.
const HUGE_PAGE: usize = 2 << 20;

/// Fresh host memory.
pub(crate) struct Buffer {
    data: NonNull<u8>,
    allocation: Allocation,
}

// SAFETY: a buffer is plain memory that only its owner reaches.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Memory of unspecified content.
    pub(crate) fn uninit(bytes: usize) -> Result<Self> {
        Self::allocate(bytes, alloc)
    }

    /// Memory full of zeros.
    pub(crate) fn zeroed(bytes: usize) -> Result<Self> {
        Self::allocate(bytes, alloc_zeroed)
    }

    fn allocate(bytes: usize, allocate: unsafe fn(Allocation) -> *mut u8) -> Result<Self> {
        let out_of_memory = Error::OutOfMemory { bytes };
        let alignment = if bytes >= LARGE { HUGE_PAGE } else { ALIGNMENT };
        let Ok(allocation) = Allocation::from_size_align(bytes.max(1), alignment) else {
            return Err(out_of_memory);
        };
        // SAFETY: the size is at least 1.
        let data = unsafe { allocate(allocation) };
        let Some(data) = NonNull::new(data) else { return Err(out_of_memory) };
        advise_huge_pages(data.as_ptr(), bytes);
        Ok(Self { data, allocation })
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.data.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this very layout by `allocate`, and dropped once.
        unsafe { dealloc(self.data.as_ptr(), self.allocation) }
    }
}

/// Asks the system for huge pages in large fresh memory.
pub(crate) fn advise_huge_pages(data: *mut u8, bytes: usize) {
    #[cfg(target_os = "linux")]
    if bytes >= LARGE {
        const PAGE: usize = 4 << 10;
        let skipped = data.align_offset(PAGE);
        let whole = (bytes - skipped) / PAGE * PAGE;
        // SAFETY: whole pages within the memory; advice changes no content. If it is refused, small
        // pages do as well.
        unsafe { libc::madvise(data.wrapping_add(skipped).cast(), whole, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (data, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_refuse_the_impossible() {
        let buffer = Buffer::zeroed(3).expect("3 bytes");
        assert_eq!(buffer.as_ptr().addr() % ALIGNMENT, 0);
        assert_eq!(
            Buffer::uninit(isize::MAX as usize).err(),
            Some(Error::OutOfMemory { bytes: isize::MAX as usize })
        );
        assert_eq!(Buffer::uninit(usize::MAX).err(), Some(Error::OutOfMemory { bytes: usize::MAX }));
    }
}
