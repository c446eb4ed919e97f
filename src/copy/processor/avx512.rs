//! What only AVX-512 VBMI can do, in registers of a cache line: byte shuffles, loads of units that
//! are not side by side, and tiles whose rows begin within lines.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "instructions that need the same processor"
)]

use std::arch::x86_64::*;

use super::interface::{LineShuffles, LineTile};
use super::nontemporal::{Joined, transpose_following_lines, transpose_shifted_lines};
use super::prefetches::prefetch_next;
use crate::copy::endpoints::Endpoints;
use crate::copy::shuffle_plan::{Input, Output, SHUFFLE_VECTOR_MAX_BYTES, ShufflePlan};
use crate::copy::sizes::{CACHE_LINE_BYTES, PREFETCH_AHEAD_BYTES};
use crate::layout::paired::PairedOffset;

pub(super) const LINE_SHUFFLES: LineShuffles = LineShuffles {
    shifted_tiles: [
        transpose_shifted::<u8, 16>,
        transpose_shifted::<u16, 8>,
        transpose_shifted::<u32, 4>,
        transpose_shifted::<u64, 2>,
        transpose_shifted::<u128, 1>,
    ],
    following_tiles: [
        transpose_following::<u8, 16>,
        transpose_following::<u16, 8>,
        transpose_following::<u32, 4>,
        transpose_following::<u64, 2>,
        transpose_following::<u128, 1>,
    ],
    run: shuffle_lines,
    load_every_second,
    load_reversed,
};

/// Runs a shuffle plan with vectors of 64 bytes, one vector of the target after the other.
///
/// # Safety
/// * As [`Shuffle`](super::interface::Shuffle) says; the processor has AVX-512 BW and VBMI.
#[inline(always)]
pub(super) unsafe fn shuffle(
    plan: &ShufflePlan,
    source: *const u8,
    target: *mut u8,
    pitch: isize,
    turns: usize,
) {
    if plan.has_following_vectors() {
        // SAFETY: the caller guarantees what the called function requires.
        return unsafe { shuffle_matrices::<false>(plan, Endpoints { source, target }, turns) };
    }
    for output in &plan.outputs {
        let offset = output.row as isize * pitch + output.offset as isize;
        let ends = Endpoints { source, target: target.wrapping_offset(offset) };
        // SAFETY: the caller says that the inputs of each turn are readable, its vector writable,
        // and that the processor has the instructions.
        unsafe { shuffle_output::<false>(plan, output, ends, turns) };
    }
}

/// The same with non-temporal stores.
///
/// # Safety
/// * As [`ShuffleLines`](super::interface::ShuffleLines) says; the processor has AVX-512 BW and
///   VBMI.
#[target_feature(enable = "avx512bw,avx512vbmi")]
unsafe fn shuffle_lines(
    plan: &ShufflePlan,
    ends: Endpoints,
    pitch: isize,
    heads: &[PairedOffset],
    turns: usize,
) {
    if plan.has_following_vectors() {
        let source = ends.source.wrapping_offset(heads[0].source);
        let target = ends.target.wrapping_offset(heads[0].target);
        // SAFETY: the caller guarantees what the called function requires.
        return unsafe { shuffle_matrices::<true>(plan, Endpoints { source, target }, turns) };
    }
    let at_once = if heads.len() > 1 { TURNS_OF_ROWS_AT_ONCE } else { TURNS_AT_ONCE };
    for first in (0..turns).step_by(at_once) {
        let turns = at_once.min(turns - first);
        for (index, output) in plan.outputs.iter().enumerate() {
            let (head, first) = (heads[output.row], first as isize);
            let row = output.row as isize * pitch + output.offset as isize;
            let source = ends.source.wrapping_offset(head.source + first * plan.source_step);
            let target = ends.target.wrapping_offset(row + head.target + first * plan.target_step);
            if index == 0 {
                let inputs = output.inputs.iter().map(|input| input.offset);
                prefetch_turns(plan, inputs, source, turns);
            }
            // SAFETY: the caller says that the inputs of each turn are readable, its vector
            // writable, that a line begins after the head, and that the processor has the
            // instructions.
            unsafe { shuffle_output::<true>(plan, output, Endpoints { source, target }, turns) };
        }
    }
}

/// Runs the plan of matrices that follow each other on both sides, with non-temporal stores or
/// ordinary ones. Vectors are written one after the other, because an AMD EPYC (Zen 5) writes lines
/// that are not followed by the next ones at half the rate.
///
/// # Safety
/// * As for [`shuffle`], or as for [`shuffle_lines`] with the addresses after the head; all vectors
///   are in one row of the target.
#[inline(always)]
unsafe fn shuffle_matrices<const NONTEMPORAL: bool>(
    plan: &ShufflePlan,
    Endpoints { source, target }: Endpoints,
    turns: usize,
) {
    for turn in 0..turns as isize {
        let source = source.wrapping_offset(turn * plan.source_step);
        let target = target.wrapping_offset(turn * plan.target_step);
        for output in &plan.outputs {
            let offset = output.offset as isize;
            if NONTEMPORAL {
                prefetch_next(source.wrapping_offset(offset + PREFETCH_AHEAD_BYTES as isize));
            }
            // SAFETY: the caller says that the processor has the instructions.
            let mut bytes = unsafe { _mm512_setzero_si512() };
            for input in &output.inputs {
                // SAFETY: a vector of the source, which the caller says is readable; the processor
                // has the instructions.
                bytes = unsafe {
                    let (indices, mask) = load_indices(input);
                    pick(bytes, mask, indices, source.wrapping_offset(input.offset))
                };
            }
            // SAFETY: a vector of the target, which the caller says is writable, and begins on a
            // cache line if it is non-temporal.
            unsafe { store::<NONTEMPORAL>(target.wrapping_offset(offset), bytes) };
        }
    }
}

/// How many turns are copied for one vector of a plan, before its other vectors are. Then the other
/// vectors find their inputs in the first-level cache.
///
/// Rates on an Intel Xeon in GB/s, on one thread, for pixels of 2, 3 and 4 units to planes, pixels
/// of 4 units from planes, and matrices of 8 × 8 units of 16 bytes:
///
/// ```text
///   4 turns    11.9   11.8   13.0   13.0   13.1
///   8 turns    13.5   13.6   12.9   12.7   12.3
/// ```
const TURNS_AT_ONCE: usize = 4;
/// The same for plans that write to several rows.
const TURNS_OF_ROWS_AT_ONCE: usize = 8;

/// Prefetches the lines that later turns will read at these offsets.
#[inline(always)]
fn prefetch_turns(
    plan: &ShufflePlan,
    offsets: impl Iterator<Item = isize> + Clone,
    source: *const u8,
    turns: usize,
) {
    for turn in 0..turns as isize {
        for offset in offsets.clone() {
            let line = source.wrapping_offset(offset + turn * plan.source_step);
            let ahead = line.wrapping_add(PREFETCH_AHEAD_BYTES);
            // SAFETY: a hint that never faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.cast()) };
        }
    }
}

/// Writes a vector of the plan in each turn, with non-temporal stores or ordinary ones.
///
/// # Safety
/// * Inputs are readable from `ends.source` on, and vectors writable from `ends.target` on, for
///   each turn. Non-temporal vectors begin on cache lines. The processor has the instructions.
#[inline(always)]
unsafe fn shuffle_output<const NONTEMPORAL: bool>(
    plan: &ShufflePlan,
    output: &Output,
    ends: Endpoints,
    turns: usize,
) {
    let steps = (plan.source_step, plan.target_step);
    // SAFETY: the caller guarantees what the called functions require.
    unsafe {
        match output.inputs.as_slice() {
            [a] => shuffle_from::<1, NONTEMPORAL>([a], ends, steps, turns),
            [a, b] => shuffle_from::<2, NONTEMPORAL>([a, b], ends, steps, turns),
            [a, b, c] => shuffle_from::<3, NONTEMPORAL>([a, b, c], ends, steps, turns),
            [a, b, c, d] => shuffle_from::<4, NONTEMPORAL>([a, b, c, d], ends, steps, turns),
            [a, b, c, d, e, f, g, h] => {
                shuffle_from::<8, NONTEMPORAL>([a, b, c, d, e, f, g, h], ends, steps, turns)
            }
            inputs => shuffle_from_many::<NONTEMPORAL>(inputs, ends, steps, turns),
        }
    }
}

/// Writes a vector of each turn, which has as many inputs as fit the registers.
///
/// # Safety
/// * As for [`shuffle_output`].
#[inline(always)]
unsafe fn shuffle_from<const N: usize, const NONTEMPORAL: bool>(
    inputs: [&Input; N],
    Endpoints { source, target }: Endpoints,
    steps: (isize, isize),
    turns: usize,
) {
    // SAFETY: the caller says that the processor has the instructions.
    let mut indices = [unsafe { _mm512_setzero_si512() }; N];
    let (mut masks, mut sources) = ([0; N], [source; N]);
    for index in 0..N {
        // SAFETY: the caller says that the processor has the instructions.
        (indices[index], masks[index]) = unsafe { load_indices(inputs[index]) };
        sources[index] = source.wrapping_offset(inputs[index].offset);
    }
    for turn in 0..turns as isize {
        // SAFETY: the caller says that the processor has the instructions.
        let mut bytes = unsafe { _mm512_setzero_si512() };
        for index in 0..N {
            let input = sources[index].wrapping_offset(turn * steps.0);
            // SAFETY: a vector of the source, which the caller says is readable.
            bytes = unsafe { pick(bytes, masks[index], indices[index], input) };
        }
        // SAFETY: a vector of the target, which the caller says is writable, and begins on a cache
        // line if it is non-temporal.
        unsafe { store::<NONTEMPORAL>(target.wrapping_offset(turn * steps.1), bytes) };
    }
}

/// # Safety
/// * As for [`shuffle_output`].
#[inline(always)]
unsafe fn shuffle_from_many<const NONTEMPORAL: bool>(
    inputs: &[Input],
    Endpoints { source, target }: Endpoints,
    steps: (isize, isize),
    turns: usize,
) {
    for turn in 0..turns as isize {
        // SAFETY: the caller says that the processor has the instructions.
        let mut bytes = unsafe { _mm512_setzero_si512() };
        for input in inputs {
            let at = source.wrapping_offset(input.offset + turn * steps.0);
            // SAFETY: a vector of the source, which the caller says is readable.
            bytes = unsafe {
                let (indices, mask) = load_indices(input);
                pick(bytes, mask, indices, at)
            };
        }
        // SAFETY: a vector of the target, which the caller says is writable, and begins on a cache
        // line if it is non-temporal.
        unsafe { store::<NONTEMPORAL>(target.wrapping_offset(turn * steps.1), bytes) };
    }
}

/// # Safety
/// * 64 bytes are writable, and begin on a cache line if the store is non-temporal. The processor
///   has AVX-512.
#[inline(always)]
unsafe fn store<const NONTEMPORAL: bool>(target: *mut u8, bytes: __m512i) {
    // SAFETY: the caller guarantees what the instructions require.
    unsafe {
        if NONTEMPORAL {
            _mm512_stream_si512(target.cast(), bytes);
        } else {
            _mm512_storeu_si512(target.cast(), bytes);
        }
    }
}

/// The byte indices of an input, and which bytes of the output come from it.
///
/// # Safety
/// * The processor has AVX-512 BW.
#[inline(always)]
unsafe fn load_indices(input: &Input) -> (__m512i, __mmask64) {
    const { assert!(SHUFFLE_VECTOR_MAX_BYTES == size_of::<__m512i>()) };
    // SAFETY: the 64 bytes of an array; the caller says that the processor has the instructions.
    unsafe {
        let indices = _mm512_loadu_si512(input.indices.as_ptr().cast());
        // Indices of bytes of other inputs have their highest bits set.
        (indices, !_mm512_movepi8_mask(indices))
    }
}

/// Replaces the bytes of `mask` by those that `indices` choose from a vector.
///
/// # Safety
/// * 64 bytes are readable at `source`; the processor has AVX-512 VBMI.
#[inline(always)]
unsafe fn pick(bytes: __m512i, mask: __mmask64, indices: __m512i, source: *const u8) -> __m512i {
    // SAFETY: the caller says that the vector is readable and that the processor has the
    // instructions.
    unsafe { _mm512_mask_permutexvar_epi8(bytes, mask, indices, _mm512_loadu_si512(source.cast())) }
}

/// How far ahead (bytes) of the loads of units the source is prefetched.
const LOAD_AHEAD_BYTES: usize = 1 << 10;

/// A line of the target comes from two lines' length of the source. With units of 16 bytes:
///
/// ```text
///   loaded with a mask        a ─ b ─   c ─ d ─      ─: a gap, which is not read
///   indices choose bytes      a b c d
/// ```
///
/// # Safety
/// * As [`LoadLines`](super::interface::LoadLines) says, for units that are two units apart; the
///   processor has AVX-512 BW and VBMI.
#[target_feature(enable = "avx512bw,avx512vbmi")]
unsafe fn load_every_second(ends: Endpoints, unit: usize, lines: usize) {
    // SAFETY: the 64 bytes of an array.
    let bytes = unsafe { _mm512_loadu_si512(INDICES.as_ptr().cast()) };
    // Byte `b` comes from byte `b % unit` of the unit `2 * (b / unit)`: from `b + b / unit * unit`.
    let unit_starts = _mm512_and_si512(bytes, _mm512_set1_epi8(-(unit as i8)));
    let indices = _mm512_add_epi8(bytes, unit_starts);
    // Bytes of units whose number is even, in each of the two registers.
    let mask = _mm512_testn_epi8_mask(bytes, _mm512_set1_epi8(unit as i8));
    for line in 0..lines {
        let offset = line * CACHE_LINE_BYTES;
        // SAFETY: the first unit of a line, which the caller says is readable.
        let source = unsafe { ends.source.add(2 * offset) };
        // SAFETY: the caller says that the line is writable.
        let target = unsafe { ends.target.add(offset) };
        for ahead in [LOAD_AHEAD_BYTES, LOAD_AHEAD_BYTES + CACHE_LINE_BYTES] {
            prefetch_next(source.wrapping_add(ahead));
        }
        // SAFETY: the mask selects the bytes of the first half of the line's units, which the
        // caller says are readable. Other bytes are not accessed.
        let first = unsafe { _mm512_maskz_loadu_epi8(mask, source.cast()) };
        // SAFETY: the same for the other half of the units, which begins 64 bytes later.
        let second = unsafe { _mm512_maskz_loadu_epi8(mask, source.add(CACHE_LINE_BYTES).cast()) };
        let units = _mm512_permutex2var_epi8(first, indices, second);
        // SAFETY: the caller says that the line is writable and begins on a cache line.
        unsafe { _mm512_stream_si512(target.cast(), units) };
    }
}

/// A line of the target comes from as many bytes of the source.
///
/// # Safety
/// * As [`LoadLines`](super::interface::LoadLines) says, for units each of which ends where the one
///   before it begins; the processor has AVX-512 BW and VBMI.
#[target_feature(enable = "avx512bw,avx512vbmi")]
unsafe fn load_reversed(ends: Endpoints, unit: usize, lines: usize) {
    // SAFETY: the 64 bytes of an array.
    let bytes = unsafe { _mm512_loadu_si512(INDICES.as_ptr().cast()) };
    // The bits that count units are inverted, those that count the bytes of a unit are not.
    let indices = _mm512_xor_si512(bytes, _mm512_set1_epi8((CACHE_LINE_BYTES - unit) as i8));
    for line in 0..lines {
        let offset = line * CACHE_LINE_BYTES;
        let source = ends.source.wrapping_add(unit).wrapping_sub(offset + CACHE_LINE_BYTES);
        prefetch_next(source.wrapping_sub(LOAD_AHEAD_BYTES));
        // SAFETY: the units of a line, the last of which begins there; the caller says that they
        // are readable.
        let units = unsafe { _mm512_loadu_si512(source.cast()) };
        let units = _mm512_permutexvar_epi8(indices, units);
        // SAFETY: the caller says that the line is writable and begins on a cache line.
        unsafe { _mm512_stream_si512(ends.target.add(offset).cast(), units) };
    }
}

// SAFETY: only functions for AVX-512 VBMI call the method.
unsafe impl Joined for __m512i {
    #[inline(always)]
    fn join(self, next: Self, begin: usize) -> Self {
        // SAFETY: the 64 bytes of an array; the processor has the instructions.
        unsafe {
            let from_zero = _mm512_loadu_si512(INDICES.as_ptr().cast());
            let indices = _mm512_add_epi8(_mm512_set1_epi8(begin as i8), from_zero);
            _mm512_permutex2var_epi8(self, indices, next)
        }
    }
}

/// The numbers of the bytes of a register.
static INDICES: [u8; CACHE_LINE_BYTES] = {
    let mut indices = [0; CACHE_LINE_BYTES];
    let mut index = 0;
    while index < CACHE_LINE_BYTES {
        indices[index] = index as u8;
        index += 1;
    }
    indices
};

/// # Safety
/// * As for [`transpose_shifted_lines`].
#[target_feature(enable = "avx512bw,avx512vbmi")]
unsafe fn transpose_shifted<T: Copy, const N: usize>(tile: &LineTile) {
    // SAFETY: the caller guarantees what the called function requires, and this function enables
    // the instructions.
    unsafe { transpose_shifted_lines::<T, __m512i, N>(tile) }
}

/// # Safety
/// * As for [`transpose_following_lines`].
#[target_feature(enable = "avx512bw,avx512vbmi")]
unsafe fn transpose_following<T: Copy, const N: usize>(tile: &LineTile) {
    // SAFETY: the caller guarantees what the called function requires, and this function enables
    // the instructions.
    unsafe { transpose_following_lines::<T, __m512i, N>(tile) }
}
