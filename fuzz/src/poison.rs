//! Gaps in memory that AddressSanitizer watches.

use std::ffi::c_void;
use std::ops::Range;

use crate::memory::Block;

#[cfg(address_sanitizer)]
unsafe extern "C" {
    fn __asan_poison_memory_region(start: *const c_void, bytes: usize);
    fn __asan_unpoison_memory_region(start: *const c_void, bytes: usize);
}

/// AddressSanitizer keeps one byte of state for this many bytes.
const GRANULE: usize = 8;

/// Makes every access of a byte outside the ranges an error, as far as AddressSanitizer can tell
/// bytes apart: whole granules only. Lasts until [`unpoison`].
pub(crate) fn poison_except(block: &Block, used: impl Iterator<Item = Range<usize>>) {
    if !cfg!(address_sanitizer) {
        return;
    }
    let mut is_used = vec![false; block.len() / GRANULE];
    for range in used {
        // The last bytes are no whole granule; what follows them is AddressSanitizer's own.
        let granules = range.start / GRANULE..range.end.div_ceil(GRANULE).min(is_used.len());
        if granules.start < granules.end {
            is_used[granules].fill(true);
        }
    }
    for granule in (0..is_used.len()).filter(|&granule| !is_used[granule]) {
        poison(block.at(granule * GRANULE), GRANULE);
    }
}

/// Allows every access again.
pub(crate) fn unpoison(block: &Block) {
    allow(block.at(0), block.len());
}

#[cfg(address_sanitizer)]
fn poison(start: *const c_void, bytes: usize) {
    // SAFETY: the memory is that of a block.
    unsafe { __asan_poison_memory_region(start, bytes) };
}

#[cfg(address_sanitizer)]
fn allow(start: *const c_void, bytes: usize) {
    // SAFETY: the memory is that of a block.
    unsafe { __asan_unpoison_memory_region(start, bytes) };
}

#[cfg(not(address_sanitizer))]
fn poison(_start: *const c_void, _bytes: usize) {}

#[cfg(not(address_sanitizer))]
fn allow(_start: *const c_void, _bytes: usize) {}
