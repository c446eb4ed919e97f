//! Vector instructions of x86-64: SSE2, which all of them have, AVX2, AVX2 with the 32 registers of
//! AVX-512, and the same with its byte shuffles of 64 bytes.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "instructions that need the same processor"
)]

use std::arch::x86_64::*;

use super::interface::{Processor, Stores, Tile};
use super::portable::{copy_tile, strided_load};
use super::shuffles::{VectorPair, shuffle};
use super::squares::{Register, transpose};
use crate::copy::shuffle_plan::{Input, SHUFFLE_VECTOR_MAX_BYTES, ShufflePlan};
use crate::copy::sizes::{CACHE_LINE_BYTES, VECTOR_BYTES};

/// The functions for the newest instructions that this machine has.
#[inline]
pub(super) fn detect() -> &'static Processor {
    if !is_x86_feature_detected!("avx2") {
        &SSE2
    } else if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
        if is_x86_feature_detected!("avx512vbmi") { &AVX512_VBMI } else { &AVX512 }
    } else {
        &AVX2
    }
}

pub(in crate::copy) static SSE2: Processor = Processor {
    strided_load: [
        strided_load::<u8>,
        strided_load::<u16>,
        strided_load::<u32>,
        strided_load::<u64>,
        strided_load::<u128>,
    ],
    copy_tile: [
        transpose::<u8, __m128i, 16>,
        transpose::<u16, __m128i, 8>,
        transpose::<u32, __m128i, 4>,
        transpose::<u64, __m128i, 2>,
        copy_tile::<u128>,
    ],
    shuffle: None,
    shuffle_bytes: VECTOR_BYTES,
    nontemporal: Some(Stores { copy: copy_nontemporal::<__m128i>, fence, prefetch }),
};

/// A table of functions: the generic ones, compiled for some instructions, with this shuffle for
/// vectors of `$shuffle_bytes`.
macro_rules! processor {
    ($name:ident, $module:ident, $features:literal, $shuffle:path, $shuffle_bytes:expr) => {
        pub(in crate::copy) static $name: Processor = Processor {
            strided_load: [
                $module::strided_load::<u8>,
                $module::strided_load::<u16>,
                $module::strided_load::<u32>,
                $module::strided_load::<u64>,
                $module::strided_load::<u128>,
            ],
            copy_tile: [
                $module::transpose::<u8, 16>,
                $module::transpose::<u16, 8>,
                $module::transpose::<u32, 4>,
                $module::transpose::<u64, 2>,
                copy_tile::<u128>,
            ],
            shuffle: Some($module::shuffle),
            shuffle_bytes: $shuffle_bytes,
            nontemporal: Some(Stores { copy: $module::copy_nontemporal, fence, prefetch }),
        };

        mod $module {
            use super::*;

            #[target_feature(enable = $features)]
            pub(super) unsafe fn strided_load<T: Copy>(
                source: *const u8,
                stride: isize,
                target: *mut u8,
                count: usize,
            ) {
                // SAFETY: the caller guarantees what the called function requires.
                unsafe { super::strided_load::<T>(source, stride, target, count) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn copy_nontemporal(
                source: *const u8,
                target: *mut u8,
                bytes: usize,
            ) {
                // SAFETY: the caller guarantees what the called function requires, and
                // this function enables AVX2.
                unsafe { super::copy_nontemporal::<__m256i>(source, target, bytes) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn shuffle(
                plan: &ShufflePlan,
                source: *const u8,
                target: *mut u8,
                pitch: isize,
                turns: usize,
            ) {
                // SAFETY: the caller guarantees what the called functions require, and
                // this function enables the instructions.
                unsafe {
                    if plan.vector_bytes == VECTOR_BYTES {
                        super::shuffle::<__m256i>(plan, source, target, pitch, turns)
                    } else {
                        $shuffle(plan, source, target, pitch, turns)
                    }
                }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn transpose<T: Copy, const N: usize>(tile: &Tile) {
                // SAFETY: the caller guarantees what the called function requires, and
                // this function enables AVX2.
                unsafe { super::transpose::<T, __m256i, N>(tile) }
            }
        }
    };
}

processor!(AVX2, avx2, "avx2", super::shuffle::<__m256i>, VECTOR_BYTES);
// The same registers, but twice as many.
processor!(AVX512, avx512, "avx2,avx512bw,avx512vl", super::shuffle::<__m256i>, VECTOR_BYTES);
// The same with shuffles of the bytes of a cache line.
processor!(
    AVX512_VBMI,
    avx512_vbmi,
    "avx2,avx512bw,avx512vl,avx512vbmi",
    super::super::avx512::shuffle,
    SHUFFLE_VECTOR_MAX_BYTES
);

/// How far ahead (bytes) of a non-temporal copy its source is prefetched. The processor's own
/// prefetches end at each page of 4 KiB.
const PREFETCH_AHEAD_BYTES: usize = 2 << 10;

/// # Safety
/// * As [`Stores::copy`] says; the processor has the instructions of the register.
#[inline(always)]
unsafe fn copy_nontemporal<R: Streamed>(source: *const u8, target: *mut u8, bytes: usize) {
    let head = target.align_offset(CACHE_LINE_BYTES).min(bytes);
    let lines = (bytes - head) / CACHE_LINE_BYTES;
    // Most calls have whole lines only, and a call of memcpy for no bytes takes time, too.
    if head > 0 {
        // SAFETY: `head` is at most `bytes`, which the caller says are readable and writable.
        unsafe { source.copy_to_nonoverlapping(target, head) };
    }
    let ahead = lines.saturating_sub(PREFETCH_AHEAD_BYTES / CACHE_LINE_BYTES);
    for line in 0..lines {
        let offset = head + line * CACHE_LINE_BYTES;
        if line < ahead {
            prefetch_next(source.wrapping_add(offset + PREFETCH_AHEAD_BYTES));
        }
        // SAFETY: one of the whole lines among the caller's `bytes`; `head` aligns it in the
        // target.
        unsafe { store_line::<R>(source.add(offset), target.add(offset)) };
    }
    let done = head + lines * CACHE_LINE_BYTES;
    if done < bytes {
        // SAFETY: the rest of the caller's `bytes`, after the last whole line.
        unsafe { source.add(done).copy_to_nonoverlapping(target.add(done), bytes - done) };
    }
}

/// Prefetches a line into the first-level cache.
#[inline(always)]
fn prefetch_next(address: *const u8) {
    // SAFETY: a hint that never faults, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

/// # Safety
/// * A cache line is readable at `source` and writable at `target`, which is aligned to a line. The
///   processor has the instructions of the register.
#[inline(always)]
unsafe fn store_line<R: Streamed>(source: *const u8, target: *mut u8) {
    for offset in (0..CACHE_LINE_BYTES).step_by(size_of::<R>()) {
        // SAFETY: a register's bytes of the line that the caller says is readable.
        let bytes = unsafe { R::load(source.add(offset)) };
        // SAFETY: as many bytes of the line that the caller says is writable, aligned to them.
        unsafe { bytes.stream(target.add(offset)) };
    }
}

fn fence() {
    // SAFETY: SSE is part of x86-64.
    unsafe { _mm_sfence() };
}

/// As [`Prefetch`](super::interface::Prefetch) says.
fn prefetch(source: *const u8, stride: isize, count: usize, bytes: usize) {
    for index in 0..count as isize {
        let piece = source.wrapping_offset(index * stride);
        for end in
            (CACHE_LINE_BYTES..=bytes.next_multiple_of(CACHE_LINE_BYTES)).step_by(CACHE_LINE_BYTES)
        {
            // SAFETY: a hint that never faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(piece.wrapping_add(end - 1).cast()) };
        }
    }
}

/// A register that can be stored past the caches.
///
/// # Safety
/// * Its method is called only where the processor has the instructions.
unsafe trait Streamed: Register {
    /// # Safety
    /// * As many bytes as the register has are writable, and aligned to that number.
    unsafe fn stream(self, target: *mut u8);
}

macro_rules! register {
    ($type:ident, $lanes:literal, $load:ident, $stream:ident,
     $low8:ident $low16:ident $low32:ident $low64:ident,
     $high8:ident $high16:ident $high32:ident $high64:ident) => {
        // SAFETY: for SSE2, part of x86-64; for AVX2, only functions for AVX2 name the type.
        unsafe impl Streamed for $type {
            #[inline(always)]
            unsafe fn stream(self, target: *mut u8) {
                // SAFETY: the caller says that the bytes are writable and aligned.
                unsafe { $stream(target.cast(), self) }
            }
        }

        // SAFETY: for SSE2, part of x86-64; for AVX2, only functions for AVX2 name the type.
        unsafe impl Register for $type {
            type Lane = __m128i;
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn load(source: *const u8) -> Self {
                // SAFETY: the caller says that the bytes of a register are readable.
                unsafe { $load(source.cast()) }
            }

            #[inline(always)]
            unsafe fn store_lane(self, lane: usize, target: *mut u8) {
                // SAFETY: the caller says that 16 bytes are writable.
                unsafe { _mm_storeu_si128(target.cast(), self.lane(lane)) }
            }

            #[inline(always)]
            fn zip_low(self, other: Self, size: usize) -> Self {
                // SAFETY: the trait's methods are called only where the processor has the
                // instructions.
                unsafe {
                    match size {
                        1 => $low8(self, other),
                        2 => $low16(self, other),
                        4 => $low32(self, other),
                        _ => $low64(self, other),
                    }
                }
            }

            #[inline(always)]
            fn zip_high(self, other: Self, size: usize) -> Self {
                // SAFETY: the trait's methods are called only where the processor has the
                // instructions.
                unsafe {
                    match size {
                        1 => $high8(self, other),
                        2 => $high16(self, other),
                        4 => $high32(self, other),
                        _ => $high64(self, other),
                    }
                }
            }
        }
    };
}

register!(
    __m128i, 1, _mm_loadu_si128, _mm_stream_si128,
    _mm_unpacklo_epi8 _mm_unpacklo_epi16 _mm_unpacklo_epi32 _mm_unpacklo_epi64,
    _mm_unpackhi_epi8 _mm_unpackhi_epi16 _mm_unpackhi_epi32 _mm_unpackhi_epi64
);
register!(
    __m256i, 2, _mm256_loadu_si256, _mm256_stream_si256,
    _mm256_unpacklo_epi8 _mm256_unpacklo_epi16 _mm256_unpacklo_epi32 _mm256_unpacklo_epi64,
    _mm256_unpackhi_epi8 _mm256_unpackhi_epi16 _mm256_unpackhi_epi32 _mm256_unpackhi_epi64
);

/// A register whose lanes can be read.
///
/// # Safety
/// * Its methods are called only where the processor has the instructions.
unsafe trait Lane: Copy {
    /// One of its lanes of 16 bytes.
    fn lane(self, lane: usize) -> __m128i;
}

// SAFETY: SSE2 is part of x86-64.
unsafe impl Lane for __m128i {
    #[inline(always)]
    fn lane(self, _lane: usize) -> __m128i {
        self
    }
}

// SAFETY: only functions for AVX2 name the type.
unsafe impl Lane for __m256i {
    #[inline(always)]
    fn lane(self, lane: usize) -> __m128i {
        // SAFETY: the processor has AVX2.
        unsafe {
            if lane == 0 {
                _mm256_castsi256_si128(self)
            } else {
                _mm256_extracti128_si256::<1>(self)
            }
        }
    }
}

// SAFETY: only functions for AVX2 name the type.
unsafe impl VectorPair for __m256i {
    /// In both lanes.
    type Indices = __m256i;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: any bytes, also zeros, are a valid `__m256i`.
        unsafe { std::mem::zeroed() }
    }

    #[inline(always)]
    fn load_indices(input: &Input) -> __m256i {
        // SAFETY: the 16 bytes of an array; the processor has AVX2.
        unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(input.indices.as_ptr().cast())) }
    }

    #[inline(always)]
    unsafe fn pick(self, indices: __m256i, one: *const u8, other: *const u8) -> Self {
        // SAFETY: the caller says that both vectors are readable; the processor has AVX2.
        unsafe {
            let source = _mm256_loadu2_m128i(other.cast(), one.cast());
            _mm256_or_si256(self, _mm256_shuffle_epi8(source, indices))
        }
    }

    #[inline(always)]
    unsafe fn store(self, one: *mut u8, other: *mut u8) {
        // SAFETY: the caller says that both addresses are writable; the processor has AVX2.
        unsafe { _mm256_storeu2_m128i(other.cast(), one.cast(), self) }
    }
}
