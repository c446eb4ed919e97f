//! Hints to the processor that memory will be read soon.

use std::arch::x86_64::*;

use crate::copy::sizes::CACHE_LINE_BYTES;

/// Prefetches a line into the first-level cache.
#[inline(always)]
pub(super) fn prefetch_next(address: *const u8) {
    // SAFETY: a hint that never faults, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

/// Prefetches a line into the second-level cache.
#[inline(always)]
pub(super) fn prefetch_later(address: *const u8) {
    // SAFETY: a hint that never faults, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
}

/// As [`Prefetch`](super::interface::Prefetch) says.
pub(super) fn prefetch(source: *const u8, stride: isize, count: usize, bytes: usize) {
    for index in 0..count as isize {
        let piece = source.wrapping_offset(index * stride);
        for end in
            (CACHE_LINE_BYTES..=bytes.next_multiple_of(CACHE_LINE_BYTES)).step_by(CACHE_LINE_BYTES)
        {
            prefetch_later(piece.wrapping_add(end - 1));
        }
    }
}
