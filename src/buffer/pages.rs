//! What this crate asks the system to do with pages of host memory.

use std::ptr::NonNull;

/// Size and alignment (bytes) of a huge page.
pub(super) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Minimum size (bytes) of an allocation from another allocator for asking for huge pages. glibc
/// maps allocations of this size apart from its heap. In a heap, huge pages do harm: when the heap
/// gives back a part of one, the system has to split the page, which takes long.
const ADVISE_MIN_BYTES: usize = 32 << 20;

/// Asks for huge pages in new memory from another allocator, if it is large enough.
pub(crate) fn advise_huge_pages(data: *mut u8, bytes: usize) {
    if bytes >= ADVISE_MIN_BYTES {
        prefer_huge_pages(data, bytes);
    }
}

/// Asks the system for huge pages.
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) fn prefer_huge_pages(data: *mut u8, bytes: usize) {
    /// The smallest size of pages. Where pages are larger, the call fails if the first address is
    /// not that of a page, and reaches to the end of the page that it ends in.
    const PAGE_BYTES: usize = 4 << 10;
    let skipped = data.align_offset(PAGE_BYTES);
    let whole = bytes.saturating_sub(skipped) / PAGE_BYTES * PAGE_BYTES;
    // SAFETY: the range consists of pages of the memory, by the arithmetic above, and
    // `MADV_HUGEPAGE` changes no content. The memory works with small pages if the call fails.
    unsafe { libc::madvise(data.wrapping_add(skipped).cast(), whole, libc::MADV_HUGEPAGE) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
pub(super) fn prefer_huge_pages(_data: *mut u8, _bytes: usize) {}

/// Lets the system take whole huge pages of the memory when it runs short, until they are written
/// again. Their content is lost if the system does so. Returns false if the system refuses.
///
/// The first and the last piece of less than a huge page are left out: with small pages, the call
/// and the next writes take half as long as the copy that they belong to.
///
/// # Safety
/// * `data` is the address of `bytes` bytes that may be written, and no code relies on their
///   content.
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) unsafe fn make_reclaimable(data: NonNull<u8>, bytes: usize) -> bool {
    let skipped = data.align_offset(HUGE_PAGE_BYTES);
    let whole = bytes.saturating_sub(skipped) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    let first = data.as_ptr().wrapping_add(skipped).cast();
    // SAFETY: the range consists of whole pages within the memory, by the arithmetic above, whose
    // content no code relies on, which the caller guarantees. `MADV_FREE` changes nothing else.
    unsafe { libc::madvise(first, whole, libc::MADV_FREE) == 0 }
}

/// This system has no such call that was measured, so the memory stays as it is.
///
/// # Safety
/// * None. The function on Linux has preconditions.
#[cfg(not(all(target_os = "linux", not(miri))))]
pub(super) unsafe fn make_reclaimable(_data: NonNull<u8>, _bytes: usize) -> bool {
    true
}
