//! Vector instructions of x86-64: SSE2, which all of them have, AVX2, AVX-512, and AVX-512 with its
//! byte shuffles of 64 bytes.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "instructions that need the same processor"
)]

use std::arch::x86_64::*;

use super::interface::{LineTile, LineTransposes, Processor, Stores, Tile};
use super::joined_runs::join_runs;
use super::nontemporal::{Streamed, copy_nontemporal, fence, transpose_lines, transpose_matrices};
use super::portable::{copy_tile, strided_load};
use super::prefetches::prefetch;
use super::shuffles::{VectorPair, shuffle};
use super::squares::{Register, transpose};
use crate::copy::shuffle_plan::{Input, SHUFFLE_VECTOR_MAX_BYTES, ShufflePlan};
use crate::copy::sizes::VECTOR_BYTES;

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
    nontemporal: Some(Stores {
        copy: copy_nontemporal::<__m128i>,
        transposes: Some(LineTransposes {
            tiles: [
                transpose_lines::<u8, __m128i, 16>,
                transpose_lines::<u16, __m128i, 8>,
                transpose_lines::<u32, __m128i, 4>,
                transpose_lines::<u64, __m128i, 2>,
                transpose_lines::<u128, __m128i, 1>,
            ],
            matrices: [
                transpose_matrices::<u8, __m128i, 16>,
                transpose_matrices::<u16, __m128i, 8>,
                transpose_matrices::<u32, __m128i, 4>,
                transpose_matrices::<u64, __m128i, 2>,
                transpose_matrices::<u128, __m128i, 1>,
            ],
        }),
        shuffles: None,
        join_runs: None,
        fence,
        prefetch,
    }),
};

/// A table of functions: the generic ones, compiled for some instructions, with registers of type
/// `$register` for whole cache lines, with `$shuffle` for vectors of `$shuffle_bytes`, and with
/// `$line_shuffles` and `$join_runs`.
macro_rules! processor {
    ($name:ident, $module:ident, $features:literal, $register:ident, $shuffle:path,
     $shuffle_bytes:expr, $line_shuffles:expr, $join_runs:expr) => {
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
            nontemporal: Some(Stores {
                copy: $module::copy_nontemporal,
                transposes: Some(LineTransposes {
                    tiles: [
                        $module::transpose_lines::<u8, 16>,
                        $module::transpose_lines::<u16, 8>,
                        $module::transpose_lines::<u32, 4>,
                        $module::transpose_lines::<u64, 2>,
                        $module::transpose_lines::<u128, 1>,
                    ],
                    matrices: [
                        $module::transpose_matrices::<u8, 16>,
                        $module::transpose_matrices::<u16, 8>,
                        $module::transpose_matrices::<u32, 4>,
                        $module::transpose_matrices::<u64, 2>,
                        $module::transpose_matrices::<u128, 1>,
                    ],
                }),
                shuffles: $line_shuffles,
                join_runs: $join_runs,
                fence,
                prefetch,
            }),
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
            pub(super) unsafe fn transpose_lines<T: Copy, const N: usize>(tile: &LineTile) {
                // SAFETY: the caller guarantees what the called function requires, and
                // this function enables the instructions.
                unsafe { super::transpose_lines::<T, $register, N>(tile) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn transpose_matrices<T: Copy, const N: usize>(
                first: &Tile,
                count: usize,
            ) {
                // SAFETY: the caller guarantees what the called function requires, and
                // this function enables the instructions.
                unsafe { super::transpose_matrices::<T, $register, N>(first, count) }
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

processor!(AVX2, avx2, "avx2", __m256i, super::shuffle::<__m256i>, VECTOR_BYTES, None, None);
// The same registers, but twice as many, and registers of a cache line for whole lines.
processor!(
    AVX512,
    avx512,
    "avx2,avx512bw,avx512vl",
    __m512i,
    super::shuffle::<__m256i>,
    VECTOR_BYTES,
    None,
    Some(join_runs)
);
// The same with shuffles of the bytes of a cache line.
processor!(
    AVX512_VBMI,
    avx512_vbmi,
    "avx2,avx512bw,avx512vl,avx512vbmi",
    __m512i,
    super::super::avx512::shuffle,
    SHUFFLE_VECTOR_MAX_BYTES,
    Some(super::avx512::LINE_SHUFFLES),
    Some(join_runs)
);

macro_rules! register {
    ($type:ident, $lanes:literal, $load:ident $store:ident $stream:ident,
     $low8:ident $low16:ident $low32:ident $low64:ident,
     $high8:ident $high16:ident $high32:ident $high64:ident) => {
        // SAFETY: SSE2 is part of x86-64; only functions for the instructions of the other types
        // name them.
        unsafe impl Streamed for $type {
            #[inline(always)]
            unsafe fn stream(self, target: *mut u8) {
                // SAFETY: the caller says that the bytes are writable and aligned.
                unsafe { $stream(target.cast(), self) }
            }

            #[inline(always)]
            unsafe fn store(self, target: *mut u8) {
                // SAFETY: the caller says that the bytes are writable.
                unsafe { $store(target.cast(), self) }
            }

            #[inline(always)]
            unsafe fn load_lanes(source: *const u8, distance: usize) -> Self {
                // SAFETY: the caller guarantees what the called function requires.
                unsafe { Lanes::load(source, distance) }
            }
        }

        // SAFETY: SSE2 is part of x86-64; only functions for the instructions of the other types
        // name them.
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
    __m128i, 1, _mm_loadu_si128 _mm_storeu_si128 _mm_stream_si128,
    _mm_unpacklo_epi8 _mm_unpacklo_epi16 _mm_unpacklo_epi32 _mm_unpacklo_epi64,
    _mm_unpackhi_epi8 _mm_unpackhi_epi16 _mm_unpackhi_epi32 _mm_unpackhi_epi64
);
register!(
    __m256i, 2, _mm256_loadu_si256 _mm256_storeu_si256 _mm256_stream_si256,
    _mm256_unpacklo_epi8 _mm256_unpacklo_epi16 _mm256_unpacklo_epi32 _mm256_unpacklo_epi64,
    _mm256_unpackhi_epi8 _mm256_unpackhi_epi16 _mm256_unpackhi_epi32 _mm256_unpackhi_epi64
);

register!(
    __m512i, 4, _mm512_loadu_si512 _mm512_storeu_si512 _mm512_stream_si512,
    _mm512_unpacklo_epi8 _mm512_unpacklo_epi16 _mm512_unpacklo_epi32 _mm512_unpacklo_epi64,
    _mm512_unpackhi_epi8 _mm512_unpackhi_epi16 _mm512_unpackhi_epi32 _mm512_unpackhi_epi64
);

/// A register as lanes of 16 bytes.
///
/// # Safety
/// * Its methods are called only where the processor has the instructions.
unsafe trait Lanes: Copy {
    fn lane(self, lane: usize) -> __m128i;
    /// As [`Streamed::load_lanes`] says.
    ///
    /// # Safety
    /// * 16 bytes are readable for each lane.
    unsafe fn load(source: *const u8, distance: usize) -> Self;
}

/// # Safety
/// * 16 bytes are readable, `index * distance` bytes after `source`.
#[inline(always)]
unsafe fn load_lane(source: *const u8, distance: usize, index: usize) -> __m128i {
    // SAFETY: the caller says that the bytes are readable; SSE2 is part of x86-64.
    unsafe { _mm_loadu_si128(source.add(index * distance).cast()) }
}

// SAFETY: SSE2 is part of x86-64.
unsafe impl Lanes for __m128i {
    #[inline(always)]
    fn lane(self, _lane: usize) -> __m128i {
        self
    }

    #[inline(always)]
    unsafe fn load(source: *const u8, distance: usize) -> Self {
        // SAFETY: the caller says that the only lane is readable.
        unsafe { load_lane(source, distance, 0) }
    }
}

// SAFETY: only functions for AVX2 name the type.
unsafe impl Lanes for __m256i {
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

    #[inline(always)]
    unsafe fn load(source: *const u8, distance: usize) -> Self {
        // SAFETY: the caller says that both lanes are readable; the processor has AVX2.
        unsafe {
            let first = _mm256_castsi128_si256(load_lane(source, distance, 0));
            _mm256_inserti128_si256::<1>(first, load_lane(source, distance, 1))
        }
    }
}

// SAFETY: only functions for AVX-512 name the type.
unsafe impl Lanes for __m512i {
    #[inline(always)]
    fn lane(self, lane: usize) -> __m128i {
        // SAFETY: the processor has AVX-512.
        unsafe {
            match lane {
                0 => _mm512_castsi512_si128(self),
                1 => _mm512_extracti32x4_epi32::<1>(self),
                2 => _mm512_extracti32x4_epi32::<2>(self),
                _ => _mm512_extracti32x4_epi32::<3>(self),
            }
        }
    }

    #[inline(always)]
    unsafe fn load(source: *const u8, distance: usize) -> Self {
        // SAFETY: the caller says that the four lanes are readable; the processor has AVX-512.
        unsafe {
            let one = _mm512_castsi128_si512(load_lane(source, distance, 0));
            let two = _mm512_inserti32x4::<1>(one, load_lane(source, distance, 1));
            let three = _mm512_inserti32x4::<2>(two, load_lane(source, distance, 2));
            _mm512_inserti32x4::<3>(three, load_lane(source, distance, 3))
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
