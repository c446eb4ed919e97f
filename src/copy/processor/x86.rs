//! Vector instructions of x86-64: SSE2, which all of them have, AVX2, and AVX2 with the 32
//! registers of AVX-512.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "instructions that need the same processor"
)]

use std::arch::x86_64::*;

use super::interface::{Processor, Stores, Tile};
use super::portable::{copy_tile, strided_load};
use crate::copy::shuffle_plan::{Input, ShufflePlan};
use crate::copy::sizes::{CACHE_LINE_BYTES, VECTOR_BYTES};

/// The functions for the newest instructions that this machine has.
#[inline]
pub(super) fn detect() -> &'static Processor {
    if !is_x86_feature_detected!("avx2") {
        &SSE2
    } else if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
        &AVX512
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
    nontemporal: Some(NONTEMPORAL),
};

/// A table of functions: the generic ones, compiled for some instructions.
macro_rules! processor {
    ($name:ident, $module:ident, $features:literal) => {
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
            nontemporal: Some(NONTEMPORAL),
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
            pub(super) unsafe fn shuffle(
                plan: &ShufflePlan,
                source: *const u8,
                target: *mut u8,
                pitch: isize,
                turns: usize,
            ) {
                // SAFETY: the caller guarantees what the called function requires, and
                // this function enables AVX2.
                unsafe { super::shuffle(plan, source, target, pitch, turns) }
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

processor!(AVX2, avx2, "avx2");
// The same registers, but twice as many.
processor!(AVX512, avx512, "avx2,avx512bw,avx512vl");

const NONTEMPORAL: Stores = Stores { copy: copy_nontemporal, fence, prefetch };

/// # Safety
/// * As [`Stores::copy`] says.
unsafe fn copy_nontemporal(source: *const u8, target: *mut u8, bytes: usize) {
    let head = target.align_offset(CACHE_LINE_BYTES).min(bytes);
    let lines = (bytes - head) / CACHE_LINE_BYTES;
    // SAFETY: `head` is at most `bytes`, which the caller says are readable and writable.
    unsafe { source.copy_to_nonoverlapping(target, head) };
    for line in 0..lines {
        let offset = head + line * CACHE_LINE_BYTES;
        // SAFETY: one of the whole lines among the caller's `bytes`; `head` aligns it in the
        // target.
        unsafe { store_line(source.add(offset), target.add(offset)) };
    }
    let done = head + lines * CACHE_LINE_BYTES;
    // SAFETY: the rest of the caller's `bytes`, after the last whole line.
    unsafe { source.add(done).copy_to_nonoverlapping(target.add(done), bytes - done) };
}

/// # Safety
/// * A cache line is readable at `source` and writable at `target`, which is aligned to a line.
#[inline(always)]
unsafe fn store_line(source: *const u8, target: *mut u8) {
    for offset in (0..CACHE_LINE_BYTES).step_by(VECTOR_BYTES) {
        // SAFETY: 16 bytes of the line that the caller says is readable.
        let bytes = unsafe { _mm_loadu_si128(source.add(offset).cast()) };
        // SAFETY: 16 bytes of the line that the caller says is writable, aligned to 16.
        unsafe { _mm_stream_si128(target.add(offset).cast(), bytes) };
    }
}

fn fence() {
    // SAFETY: SSE is part of x86-64.
    unsafe { _mm_sfence() };
}

fn prefetch(address: *const u8) {
    // SAFETY: a hint that never faults, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
}

/// A register of one or more lanes of 16 bytes.
///
/// # Safety
/// * Its methods are called only where the processor has the instructions.
unsafe trait Register: Lane {
    const LANES: usize;
    /// # Safety
    /// * As many bytes as the register has are readable.
    unsafe fn load(source: *const u8) -> Self;
    /// # Safety
    /// * 16 bytes are writable.
    unsafe fn store_lane(self, lane: usize, target: *mut u8);
    /// Units of `size` bytes from the lower halves of the lanes: those of `self` and of `other`
    /// alternate.
    fn zip_low(self, other: Self, size: usize) -> Self;
    /// The same from the upper half.
    fn zip_high(self, other: Self, size: usize) -> Self;
}

macro_rules! register {
    ($type:ident, $lanes:literal, $load:ident,
     $low8:ident $low16:ident $low32:ident $low64:ident,
     $high8:ident $high16:ident $high32:ident $high64:ident) => {
        // SAFETY: for SSE2, part of x86-64; for AVX2, only functions for AVX2 name the type.
        unsafe impl Register for $type {
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
    __m128i, 1, _mm_loadu_si128,
    _mm_unpacklo_epi8 _mm_unpacklo_epi16 _mm_unpacklo_epi32 _mm_unpacklo_epi64,
    _mm_unpackhi_epi8 _mm_unpackhi_epi16 _mm_unpackhi_epi32 _mm_unpackhi_epi64
);
register!(
    __m256i, 2, _mm256_loadu_si256,
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

/// Copies a tile whose rows are contiguous in the source: squares of `N` columns and `N` rows, `N`
/// units to a lane, are transposed in registers.
///
/// # Safety
/// * As [`CopyTile`](super::interface::CopyTile) says, for units of the size of `T`; `N` of them
///   take 16 bytes.
#[inline(always)]
unsafe fn transpose<T: Copy, R: Register, const N: usize>(tile: &Tile) {
    if tile.source_row_stride != size_of::<T>() as isize || tile.columns < N || tile.rows < N {
        // SAFETY: the caller guarantees what the called function requires.
        return unsafe { copy_tile::<T>(tile) };
    }
    let wide = N * R::LANES;
    let mut column = 0;
    loop {
        let mut row = 0;
        while row + wide <= tile.rows {
            // SAFETY: the loop conditions leave `wide` rows from `row` and `N` columns from
            // `column`.
            unsafe { squares::<T, R, N>(tile, column, row) };
            row += wide;
        }
        while row < tile.rows {
            // SAFETY: the tile has at least `N` rows, so the last `N` begin at `rows - N`. Some of
            // them may be written a second time, with the same bytes.
            unsafe { squares::<T, __m128i, N>(tile, column, row.min(tile.rows - N)) };
            row += N;
        }
        if column + N >= tile.columns {
            return;
        }
        column = (column + N).min(tile.columns - N);
    }
}

/// # Safety
/// * As for [`transpose`]; from `column` on there are `N` columns, from `row` on `N` rows for each
///   lane of the register.
#[inline(always)]
unsafe fn squares<T: Copy, R: Register, const N: usize>(tile: &Tile, column: usize, row: usize) {
    let size = size_of::<T>();
    // SAFETY: the address of a unit of the tile, at `row` and `column`, which the caller says
    // exist.
    let source =
        unsafe { tile.source.offset(column as isize * tile.source_column_stride).add(row * size) };
    // SAFETY: the same unit in the target.
    let target =
        unsafe { tile.target.offset(row as isize * tile.target_row_stride).add(column * size) };
    // Plain loops: closures would not be compiled for the instructions of the register.
    // SAFETY: the first of `N` columns; its rows are contiguous, and the caller says that there are
    // enough for the register.
    let mut units = [unsafe { R::load(source) }; N];
    for (column, unit) in units.iter_mut().enumerate() {
        // SAFETY: another of these `N` columns.
        *unit = unsafe { R::load(source.offset(column as isize * tile.source_column_stride)) };
    }
    // Each round zips register `index` with register `index + N / 2`: their units alternate in the
    // results. After log2(N) rounds rows and columns are exchanged. For N = 4, with the columns
    // a, b, c and d of the source:
    //
    //     a0 a1 a2 a3    zip a, c    a0 c0 a1 c1    zip registers    a0 b0 c0 d0
    //     b0 b1 b2 b3    zip b, d    a2 c2 a3 c3    0, 2 and 1, 3    a1 b1 c1 d1
    //     c0 c1 c2 c3                b0 d0 b1 d1                     a2 b2 c2 d2
    //     d0 d1 d2 d3                b2 d2 b3 d3                     a3 b3 c3 d3
    for _ in 0..N.trailing_zeros() {
        let before = units;
        for index in 0..N / 2 {
            units[2 * index] = before[index].zip_low(before[index + N / 2], size);
            units[2 * index + 1] = before[index].zip_high(before[index + N / 2], size);
        }
    }
    for (index, unit) in units.into_iter().enumerate() {
        for lane in 0..R::LANES {
            // SAFETY: one of the rows that the caller says exist; its `N` columns are contiguous.
            unsafe {
                unit.store_lane(
                    lane,
                    target.offset((lane * N + index) as isize * tile.target_row_stride),
                )
            };
        }
    }
}

/// Runs a shuffle plan, one vector of the target after the other.
///
/// # Safety
/// * As [`Shuffle`](super::interface::Shuffle) says; the processor has AVX2.
#[inline(always)]
unsafe fn shuffle(
    plan: &ShufflePlan,
    source: *const u8,
    target: *mut u8,
    pitch: isize,
    turns: usize,
) {
    let steps = (plan.source_step, plan.target_step);
    for output in &plan.outputs {
        let offset = output.row as isize * pitch + output.offset as isize;
        let target = target.wrapping_offset(offset);
        // SAFETY: the caller says that the inputs of each turn are readable, its vector writable,
        // and that the processor has AVX2.
        unsafe {
            match output.inputs.as_slice() {
                [a] => shuffle_from([a], source, target, steps, turns),
                [a, b] => shuffle_from([a, b], source, target, steps, turns),
                [a, b, c] => shuffle_from([a, b, c], source, target, steps, turns),
                [a, b, c, d] => shuffle_from([a, b, c, d], source, target, steps, turns),
                inputs => shuffle_from_many(inputs, source, target, steps, turns),
            }
        }
    }
}

/// Writes a vector of each turn, which has as many inputs as fit the registers.
///
/// # Safety
/// * Inputs are readable and vectors writable for each turn; the processor has AVX2.
#[inline(always)]
unsafe fn shuffle_from<const N: usize>(
    inputs: [&Input; N],
    source: *const u8,
    target: *mut u8,
    steps: (isize, isize),
    turns: usize,
) {
    let (mut indices, mut sources) = ([zero(); N], [source; N]);
    for (index, input) in inputs.into_iter().enumerate() {
        // SAFETY: the caller says that the processor has AVX2.
        indices[index] = unsafe { load_indices(input) };
        sources[index] = source.wrapping_offset(input.offset);
    }
    for_each_pair(turns, |turn, other| {
        let mut bytes = zero();
        for index in 0..N {
            let at = |turn: isize| sources[index].wrapping_offset(turn * steps.0);
            // SAFETY: two vectors of the source, which the caller says are readable.
            bytes = unsafe { pick(bytes, indices[index], at(turn), at(other)) };
        }
        // SAFETY: two vectors of the target, which the caller says are writable.
        unsafe {
            store_pair(
                bytes,
                target.wrapping_offset(turn * steps.1),
                target.wrapping_offset(other * steps.1),
            )
        };
    });
}

/// # Safety
/// * As for [`shuffle_from`].
#[inline(always)]
unsafe fn shuffle_from_many(
    inputs: &[Input],
    source: *const u8,
    target: *mut u8,
    steps: (isize, isize),
    turns: usize,
) {
    for_each_pair(turns, |turn, other| {
        let mut bytes = zero();
        for input in inputs {
            let at = |turn: isize| source.wrapping_offset(input.offset + turn * steps.0);
            // SAFETY: two vectors of the source, which the caller says are readable.
            bytes = unsafe { pick(bytes, load_indices(input), at(turn), at(other)) };
        }
        // SAFETY: two vectors of the target, which the caller says are writable.
        unsafe {
            store_pair(
                bytes,
                target.wrapping_offset(turn * steps.1),
                target.wrapping_offset(other * steps.1),
            )
        };
    });
}

/// Calls `body` with two turns at once, one for each lane. The last of an odd number comes twice.
#[inline(always)]
fn for_each_pair(turns: usize, mut body: impl FnMut(isize, isize)) {
    for turn in (0..turns).step_by(2) {
        body(turn as isize, (turn + 1).min(turns - 1) as isize);
    }
}

#[inline(always)]
fn zero() -> __m256i {
    // SAFETY: any bytes, also zeros, are a valid `__m256i`.
    unsafe { std::mem::zeroed() }
}

/// The byte indices of an input, in both lanes.
///
/// # Safety
/// * The processor has AVX2.
#[inline(always)]
unsafe fn load_indices(input: &Input) -> __m256i {
    // SAFETY: the 16 bytes of an array; the caller says that the processor has AVX2.
    unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(input.indices.as_ptr().cast())) }
}

/// Adds to `bytes` the bytes that `indices` choose from a vector of either turn.
///
/// # Safety
/// * 16 bytes are readable at `one` and at `other`; the processor has AVX2.
#[inline(always)]
unsafe fn pick(bytes: __m256i, indices: __m256i, one: *const u8, other: *const u8) -> __m256i {
    // SAFETY: the caller says that both vectors are readable and that the processor has AVX2.
    unsafe {
        let source = _mm256_loadu2_m128i(other.cast(), one.cast());
        _mm256_or_si256(bytes, _mm256_shuffle_epi8(source, indices))
    }
}

/// # Safety
/// * 16 bytes are writable at `one` and at `other`; the processor has AVX2.
#[inline(always)]
unsafe fn store_pair(bytes: __m256i, one: *mut u8, other: *mut u8) {
    // SAFETY: the caller says that both addresses are writable and that the processor has AVX2.
    unsafe { _mm256_storeu2_m128i(other.cast(), one.cast(), bytes) }
}
