//! Vector instructions of x86-64: SSE2, which all have, AVX2, and the registers of AVX-512.

#![expect(clippy::multiple_unsafe_ops_per_block, reason = "instructions that need the same processor")]

use std::arch::x86_64::*;

use super::{Processor, NontemporalStores, Tile, fill, strided_load};
use crate::copy::CACHE_LINE_BYTES;
use crate::copy::shuffle_plan::{Input, ShufflePlan};

/// The best that this machine can do.
#[inline]
pub(in crate::copy) fn detect() -> &'static Processor {
    if !is_x86_feature_detected!("avx2") {
        &SSE2
    } else if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
        &AVX512
    } else {
        &AVX2
    }
}

pub(in crate::copy) static SSE2: Processor = Processor {
    strided_load: [strided_load::<u8>, strided_load::<u16>, strided_load::<u32>, strided_load::<u64>, strided_load::<u128>],
    fill: [
        transpose::<u8, __m128i, 16>,
        transpose::<u16, __m128i, 8>,
        transpose::<u32, __m128i, 4>,
        transpose::<u64, __m128i, 2>,
        fill::<u128>,
    ],
    shuffle: None,
    nontemporal: NONTEMPORAL,
};

/// A processor and its functions: the generic ones, compiled for some instructions.
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
            fill: [
                $module::transpose::<u8, 16>,
                $module::transpose::<u16, 8>,
                $module::transpose::<u32, 4>,
                $module::transpose::<u64, 2>,
                fill::<u128>,
            ],
            shuffle: Some($module::shuffle),
            nontemporal: NONTEMPORAL,
        };

        mod $module {
            use super::*;

            #[target_feature(enable = $features)]
            pub(super) unsafe fn strided_load<T: Copy>(from: *const u8, step: isize, to: *mut u8, count: usize) {
                // SAFETY: the caller's promise.
                unsafe { super::strided_load::<T>(from, step, to, count) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn shuffle(
                plan: &ShufflePlan,
                from: *const u8,
                to: *mut u8,
                pitch: isize,
                turns: usize,
            ) {
                // SAFETY: the caller's promise; AVX2 is enabled here.
                unsafe { super::shuffle(plan, from, to, pitch, turns) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn transpose<T: Copy, const N: usize>(tile: &Tile) {
                // SAFETY: the caller's promise; AVX2 is enabled here.
                unsafe { super::transpose::<T, __m256i, N>(tile) }
            }
        }
    };
}

processor!(AVX2, avx2, "avx2");
// The same registers, but twice as many.
processor!(AVX512, avx512, "avx2,avx512bw,avx512vl");

const NONTEMPORAL: Option<NontemporalStores> = Some(NontemporalStores { copy: copy_nontemporal, fence, prefetch });

/// # Safety
/// * As [`NontemporalStores::copy`] says.
unsafe fn copy_nontemporal(from: *const u8, to: *mut u8, bytes: usize) {
    let head = to.align_offset(CACHE_LINE_BYTES).min(bytes);
    let lines = (bytes - head) / CACHE_LINE_BYTES;
    // SAFETY: the bytes before the first whole line.
    unsafe { from.copy_to_nonoverlapping(to, head) };
    for line in 0..lines {
        let offset = head + line * CACHE_LINE_BYTES;
        // SAFETY: a whole line of the target, which is aligned, and its bytes in the source.
        unsafe { store_line(from.add(offset), to.add(offset)) };
    }
    let done = head + lines * CACHE_LINE_BYTES;
    // SAFETY: the bytes after the last whole line.
    unsafe { from.add(done).copy_to_nonoverlapping(to.add(done), bytes - done) };
}

/// # Safety
/// * A line is readable at `from` and writable at `to`, which is aligned to it.
#[inline(always)]
unsafe fn store_line(from: *const u8, to: *mut u8) {
    for lane in (0..CACHE_LINE_BYTES).step_by(16) {
        // SAFETY: 16 bytes of the line.
        let bytes = unsafe { _mm_loadu_si128(from.add(lane).cast()) };
        // SAFETY: 16 bytes of the line, aligned to 16.
        unsafe { _mm_stream_si128(to.add(lane).cast(), bytes) };
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
    /// * As many bytes are readable.
    unsafe fn load(from: *const u8) -> Self;
    /// # Safety
    /// * 16 bytes are writable.
    unsafe fn store_lane(self, lane: usize, to: *mut u8);
    /// Units of `size` bytes from the lower half of each lane, of `self` and `other` in turns.
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
            unsafe fn load(from: *const u8) -> Self {
                // SAFETY: the caller's promise.
                unsafe { $load(from.cast()) }
            }

            #[inline(always)]
            unsafe fn store_lane(self, lane: usize, to: *mut u8) {
                // SAFETY: the caller's promise.
                unsafe { _mm_storeu_si128(to.cast(), self.lane(lane)) }
            }

            #[inline(always)]
            fn zip_low(self, other: Self, size: usize) -> Self {
                // SAFETY: the processor has the instructions.
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
                // SAFETY: the processor has the instructions.
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

/// A register that can be taken apart.
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
        unsafe { if lane == 0 { _mm256_castsi256_si128(self) } else { _mm256_extracti128_si256::<1>(self) } }
    }
}

/// Fills a tile whose rows follow each other in the source: squares of `N` columns and `N` rows, as
/// many as fit a lane, are transposed in registers.
///
/// # Safety
/// * As [`Fill`] says, for units of the size of `T`; `N` of them take 16 bytes.
#[inline(always)]
unsafe fn transpose<T: Copy, R: Register, const N: usize>(tile: &Tile) {
    if tile.from_row != size_of::<T>() as isize || tile.columns < N || tile.rows < N {
        // SAFETY: the caller's promise.
        return unsafe { fill::<T>(tile) };
    }
    let wide = N * R::LANES;
    let mut column = 0;
    loop {
        let mut row = 0;
        while row + wide <= tile.rows {
            // SAFETY: `wide` rows and `N` columns are left.
            unsafe { squares::<T, R, N>(tile, column, row) };
            row += wide;
        }
        while row < tile.rows {
            // SAFETY: the tile has `N` rows; some may be written once more, with the same bytes.
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
    // SAFETY: a unit of the tile.
    let from = unsafe { tile.from.offset(column as isize * tile.from_column).add(row * size) };
    // SAFETY: likewise.
    let to = unsafe { tile.to.offset(row as isize * tile.to_row).add(column * size) };
    // Plain loops: closures would not be compiled for the instructions of the register.
    // SAFETY: the first of `N` columns; its rows follow each other.
    let mut units = [unsafe { R::load(from) }; N];
    for (column, unit) in units.iter_mut().enumerate() {
        // SAFETY: another of these columns.
        *unit = unsafe { R::load(from.offset(column as isize * tile.from_column)) };
    }
    // Taking turns between the two halves of the registers as often as N can be halved exchanges
    // rows and columns.
    for _ in 0..N.trailing_zeros() {
        let before = units;
        for index in 0..N / 2 {
            units[2 * index] = before[index].zip_low(before[index + N / 2], size);
            units[2 * index + 1] = before[index].zip_high(before[index + N / 2], size);
        }
    }
    for (index, unit) in units.into_iter().enumerate() {
        for lane in 0..R::LANES {
            // SAFETY: one of the rows; its columns follow each other.
            unsafe { unit.store_lane(lane, to.offset((lane * N + index) as isize * tile.to_row)) };
        }
    }
}

/// Runs a plan, one vector of the target after the other.
///
/// # Safety
/// * As [`Shuffle`](super::Shuffle) says; the processor has AVX2.
#[inline(always)]
unsafe fn shuffle(plan: &ShufflePlan, from: *const u8, to: *mut u8, pitch: isize, turns: usize) {
    let steps = (plan.from_step, plan.to_step);
    for output in &plan.outputs {
        let to = to.wrapping_offset(output.row as isize * pitch + output.offset as isize);
        // SAFETY: the caller's promise, for one vector of each turn.
        unsafe {
            match output.inputs.as_slice() {
                [a] => shuffle_from([a], from, to, steps, turns),
                [a, b] => shuffle_from([a, b], from, to, steps, turns),
                [a, b, c] => shuffle_from([a, b, c], from, to, steps, turns),
                [a, b, c, d] => shuffle_from([a, b, c, d], from, to, steps, turns),
                inputs => shuffle_from_many(inputs, from, to, steps, turns),
            }
        }
    }
}

/// Puts a vector of each turn together; few inputs stay in registers.
///
/// # Safety
/// * Inputs are readable and vectors writable for each turn; the processor has AVX2.
#[inline(always)]
unsafe fn shuffle_from<const N: usize>(
    inputs: [&Input; N],
    from: *const u8,
    to: *mut u8,
    steps: (isize, isize),
    turns: usize,
) {
    let (mut places, mut sources) = ([zero(); N], [from; N]);
    for (index, input) in inputs.into_iter().enumerate() {
        // SAFETY: the processor has AVX2.
        places[index] = unsafe { places_of(input) };
        sources[index] = from.wrapping_offset(input.offset);
    }
    for_each_pair(turns, |turn, other| {
        let mut bytes = zero();
        for index in 0..N {
            let at = |turn: isize| sources[index].wrapping_offset(turn * steps.0);
            // SAFETY: two vectors of the source, which the caller says are readable.
            bytes = unsafe { pick(bytes, places[index], at(turn), at(other)) };
        }
        // SAFETY: two vectors of the target, which the caller says are writable.
        unsafe { store_pair(bytes, to.wrapping_offset(turn * steps.1), to.wrapping_offset(other * steps.1)) };
    });
}

/// # Safety
/// * As for [`shuffle_from`].
#[inline(always)]
unsafe fn shuffle_from_many(
    inputs: &[Input],
    from: *const u8,
    to: *mut u8,
    steps: (isize, isize),
    turns: usize,
) {
    for_each_pair(turns, |turn, other| {
        let mut bytes = zero();
        for input in inputs {
            let at = |turn: isize| from.wrapping_offset(input.offset + turn * steps.0);
            // SAFETY: two vectors of the source, which the caller says are readable.
            bytes = unsafe { pick(bytes, places_of(input), at(turn), at(other)) };
        }
        // SAFETY: two vectors of the target, which the caller says are writable.
        unsafe { store_pair(bytes, to.wrapping_offset(turn * steps.1), to.wrapping_offset(other * steps.1)) };
    });
}

/// Two turns at once, one for each lane. An odd last one comes twice.
#[inline(always)]
fn for_each_pair(turns: usize, mut body: impl FnMut(isize, isize)) {
    for turn in (0..turns).step_by(2) {
        body(turn as isize, (turn + 1).min(turns - 1) as isize);
    }
}

#[inline(always)]
fn zero() -> __m256i {
    // SAFETY: any bytes are a register.
    unsafe { std::mem::zeroed() }
}

/// The places of an input, in both lanes.
///
/// # Safety
/// * The processor has AVX2.
#[inline(always)]
unsafe fn places_of(input: &Input) -> __m256i {
    // SAFETY: 16 bytes; the caller's promise.
    unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(input.bytes.as_ptr().cast())) }
}

/// Adds the bytes of a vector of each turn that go to `places`.
///
/// # Safety
/// * Both vectors are readable; the processor has AVX2.
#[inline(always)]
unsafe fn pick(bytes: __m256i, places: __m256i, one: *const u8, other: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let source = _mm256_loadu2_m128i(other.cast(), one.cast());
        _mm256_or_si256(bytes, _mm256_shuffle_epi8(source, places))
    }
}

/// # Safety
/// * 16 bytes are writable at both places; the processor has AVX2.
#[inline(always)]
unsafe fn store_pair(bytes: __m256i, one: *mut u8, other: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { _mm256_storeu2_m128i(other.cast(), one.cast(), bytes) }
}
