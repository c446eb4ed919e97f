//! Runs shuffle plans, for every kind of register that has the methods of [`VectorPair`].

use crate::copy::shuffle_plan::{Input, ShufflePlan};
use crate::copy::sizes::VECTOR_BYTES;

/// Two vectors of 16 bytes, for two turns of a plan.
///
/// # Safety
/// * Its methods are called only where the processor has the instructions.
pub(super) unsafe trait VectorPair: Copy {
    /// The byte indices of an input, as the instructions need them.
    type Indices: Copy;

    /// Two vectors of zeros.
    fn zero() -> Self;

    fn load_indices(input: &Input) -> Self::Indices;

    /// Adds to `self` the bytes that `indices` choose from the vector at either address.
    ///
    /// # Safety
    /// * 16 bytes are readable at `one` and at `other`.
    unsafe fn pick(self, indices: Self::Indices, one: *const u8, other: *const u8) -> Self;

    /// Writes each vector to one of the addresses.
    ///
    /// # Safety
    /// * 16 bytes are writable at `one` and at `other`.
    unsafe fn store(self, one: *mut u8, other: *mut u8);
}

/// Runs a shuffle plan, one vector of the target after the other.
///
/// # Safety
/// * As [`Shuffle`](super::interface::Shuffle) says, for the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn shuffle<V: VectorPair>(
    plan: &ShufflePlan,
    source: *const u8,
    target: *mut u8,
    pitch: isize,
    turns: usize,
) {
    debug_assert_eq!(plan.vector_bytes, VECTOR_BYTES);
    let steps = (plan.source_step, plan.target_step);
    for output in &plan.outputs {
        let offset = output.row as isize * pitch + output.offset as isize;
        let target = target.wrapping_offset(offset);
        // SAFETY: the caller says that the inputs of each turn are readable and its vector
        // writable.
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one of them runs")]
        unsafe {
            match output.inputs.as_slice() {
                [a] => shuffle_from::<V, 1>([a], source, target, steps, turns),
                [a, b] => shuffle_from::<V, 2>([a, b], source, target, steps, turns),
                [a, b, c] => shuffle_from::<V, 3>([a, b, c], source, target, steps, turns),
                [a, b, c, d] => shuffle_from::<V, 4>([a, b, c, d], source, target, steps, turns),
                inputs => shuffle_from_many::<V>(inputs, source, target, steps, turns),
            }
        }
    }
}

/// Writes a vector of each turn, which has as many inputs as fit the registers.
///
/// # Safety
/// * Inputs are readable and vectors writable for each turn; the processor has the instructions.
#[inline(always)]
unsafe fn shuffle_from<V: VectorPair, const N: usize>(
    inputs: [&Input; N],
    source: *const u8,
    target: *mut u8,
    steps: (isize, isize),
    turns: usize,
) {
    let (mut indices, mut sources) = ([V::load_indices(inputs[0]); N], [source; N]);
    for (index, input) in inputs.into_iter().enumerate() {
        indices[index] = V::load_indices(input);
        sources[index] = source.wrapping_offset(input.offset);
    }
    for_each_pair(turns, |turn, other| {
        let mut bytes = V::zero();
        for index in 0..N {
            let at = |turn: isize| sources[index].wrapping_offset(turn * steps.0);
            // SAFETY: two vectors of the source, which the caller says are readable.
            bytes = unsafe { bytes.pick(indices[index], at(turn), at(other)) };
        }
        let at = |turn: isize| target.wrapping_offset(turn * steps.1);
        // SAFETY: two vectors of the target, which the caller says are writable.
        unsafe { bytes.store(at(turn), at(other)) };
    });
}

/// # Safety
/// * As for [`shuffle_from`].
#[inline(always)]
unsafe fn shuffle_from_many<V: VectorPair>(
    inputs: &[Input],
    source: *const u8,
    target: *mut u8,
    steps: (isize, isize),
    turns: usize,
) {
    for_each_pair(turns, |turn, other| {
        let mut bytes = V::zero();
        for input in inputs {
            let at = |turn: isize| source.wrapping_offset(input.offset + turn * steps.0);
            // SAFETY: two vectors of the source, which the caller says are readable.
            bytes = unsafe { bytes.pick(V::load_indices(input), at(turn), at(other)) };
        }
        let at = |turn: isize| target.wrapping_offset(turn * steps.1);
        // SAFETY: two vectors of the target, which the caller says are writable.
        unsafe { bytes.store(at(turn), at(other)) };
    });
}

/// Calls `body` with two turns at once, one for each vector. The last of an odd number comes twice.
#[inline(always)]
fn for_each_pair(turns: usize, mut body: impl FnMut(isize, isize)) {
    for turn in (0..turns).step_by(2) {
        body(turn as isize, (turn + 1).min(turns - 1) as isize);
    }
}
