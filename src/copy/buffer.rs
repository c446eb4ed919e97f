//! Fresh host memory.

use std::alloc::{Layout as Allocation, alloc, dealloc};
use std::ptr::NonNull;

use crate::{Error, Result};

/// Alignment of memory that this crate allocates: what JAX needs to share it, and DLPack's own
/// wish. In bytes.
pub(crate) const ALIGNMENT: usize = 256;

/// Buffers of so many bytes come in huge pages, where the system has them: with small ones, the first
/// touch of a large buffer takes longer than filling it.
const LARGE: usize = 4 << 20;

/// Memory of others that is as large is not part of a heap: glibc maps it apart. A heap is better left
/// alone, because huge pages are split, which takes long, whenever a part of one is given back.
const MAPPED: usize = 32 << 20;

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
        let out_of_memory = Error::OutOfMemory { bytes };
        let alignment = if bytes >= LARGE { HUGE_PAGE } else { ALIGNMENT };
        let Ok(allocation) = Allocation::from_size_align(bytes.max(1), alignment) else {
            return Err(out_of_memory);
        };
        // SAFETY: the size is at least 1.
        let data = unsafe { alloc(allocation) };
        let Some(data) = NonNull::new(data) else { return Err(out_of_memory) };
        if bytes >= LARGE {
            advise(data.as_ptr(), bytes);
        }
        Ok(Self { data, allocation })
    }

    /// Memory full of zeros. They are written here, as an allocator would have to at such an alignment.
    pub(crate) fn zeroed(bytes: usize) -> Result<Self> {
        let buffer = Self::uninit(bytes)?;
        // SAFETY: `bytes` were just allocated.
        unsafe { buffer.as_ptr().write_bytes(0, bytes) };
        Ok(buffer)
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

/// Asks for huge pages in fresh memory of another allocator, where it is large enough for that.
pub(crate) fn advise_huge_pages(data: *mut u8, bytes: usize) {
    if bytes >= MAPPED {
        advise(data, bytes);
    }
}

/// Asks the system for huge pages.
#[cfg(target_os = "linux")]
fn advise(data: *mut u8, bytes: usize) {
    const PAGE: usize = 4 << 10;
    let skipped = data.align_offset(PAGE);
    let whole = bytes.saturating_sub(skipped) / PAGE * PAGE;
    // SAFETY: whole pages within the memory; advice changes no content. If it is refused, small pages do
    // as well.
    unsafe { libc::madvise(data.wrapping_add(skipped).cast(), whole, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise(_data: *mut u8, _bytes: usize) {}

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
