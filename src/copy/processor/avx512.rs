//! What only AVX-512 VBMI can do, in registers of a cache line: byte shuffles, and tiles whose rows
//! begin within lines.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "instructions that need the same processor"
)]

use std::arch::x86_64::*;

use super::interface::{LineTile, TransposeLines};
use super::nontemporal::{Joined, transpose_shifted_lines};
use crate::copy::shuffle_plan::{Input, SHUFFLE_VECTOR_MAX_BYTES, ShufflePlan};
use crate::copy::sizes::CACHE_LINE_BYTES;

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
    let steps = (plan.source_step, plan.target_step);
    for output in &plan.outputs {
        let offset = output.row as isize * pitch + output.offset as isize;
        let target = target.wrapping_offset(offset);
        // SAFETY: the caller says that the inputs of each turn are readable, its vector writable,
        // and that the processor has the instructions.
        unsafe {
            match output.inputs.as_slice() {
                [a] => shuffle_from([a], source, target, steps, turns),
                [a, b] => shuffle_from([a, b], source, target, steps, turns),
                [a, b, c] => shuffle_from([a, b, c], source, target, steps, turns),
                [a, b, c, d] => shuffle_from([a, b, c, d], source, target, steps, turns),
                [a, b, c, d, e, f, g, h] => {
                    shuffle_from([a, b, c, d, e, f, g, h], source, target, steps, turns)
                }
                inputs => shuffle_from_many(inputs, source, target, steps, turns),
            }
        }
    }
}

/// Writes a vector of each turn, which has as many inputs as fit the registers.
///
/// # Safety
/// * Inputs are readable and vectors writable for each turn; the processor has the instructions.
#[inline(always)]
unsafe fn shuffle_from<const N: usize>(
    inputs: [&Input; N],
    source: *const u8,
    target: *mut u8,
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
        // SAFETY: a vector of the target, which the caller says is writable.
        unsafe { _mm512_storeu_si512(target.wrapping_offset(turn * steps.1).cast(), bytes) };
    }
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
        // SAFETY: a vector of the target, which the caller says is writable.
        unsafe { _mm512_storeu_si512(target.wrapping_offset(turn * steps.1).cast(), bytes) };
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

/// For units of 1, 2, 4 and 8 bytes.
pub(super) const TRANSPOSE_SHIFTED_LINES: [TransposeLines; 4] = [
    transpose_shifted::<u8, 16>,
    transpose_shifted::<u16, 8>,
    transpose_shifted::<u32, 4>,
    transpose_shifted::<u64, 2>,
];

/// # Safety
/// * As for [`transpose_shifted_lines`].
#[target_feature(enable = "avx512bw,avx512vbmi")]
unsafe fn transpose_shifted<T: Copy, const N: usize>(tile: &LineTile) {
    // SAFETY: the caller guarantees what the called function requires, and this function enables
    // the instructions.
    unsafe { transpose_shifted_lines::<T, __m512i, N>(tile) }
}
