//! Plans for shuffling bytes if a dimension is small: pixels become planes (deinterleaving), planes
//! become pixels (interleaving), or many small matrices are transposed. Each vector of the target
//! is put together from byte shuffles of some vectors of the source. Vectors have 16 bytes
//! (`pshufb`) or 64 (`vpermb`): see [`ShufflePlan::vector_bytes`].
//!
//! For example, one turn of deinterleaving RGB pixels of one byte with vectors of 16 bytes copies
//! 16 pixels, 48 bytes. The vector of the reds has three inputs, which begin 0, 18 and 32 bytes
//! into the source:
//!
//! ```text
//!   source     R G B R G B R G B R G B R G B R G B R G B R G B ...    red i is byte 3 * i
//!   input 0    0 3 6 9 12 15 . . . . . . . . . .
//!   input 18   . . . . . . 0 3 6 9 12 15 . . . .
//!   input 32   . . . . . . . . . . . . 4 7 10 13
//!   output     R R R R R R R R R R R R R R R R                        the OR of the three
//! ```
//!
//! A number is the index of a byte in the input, and a dot is [`EMPTY`]: the shuffle writes 0
//! there. The vectors of the greens and the blues have inputs of their own.

#![forbid(unsafe_code)]
#![cfg_attr(
    any(miri, not(any(target_arch = "aarch64", target_arch = "x86_64"))),
    allow(dead_code, reason = "only vector instructions run plans")
)]

use smallvec::SmallVec;

use super::sizes::VECTOR_BYTES;
use crate::layout::paired::PairedOffset;

/// Minimum size (bytes) of a copy for which a shuffle plan is made. Making one takes about as long
/// as copying this many bytes without it.
pub(super) const SHUFFLE_MIN_BYTES: usize = 4 << 10;

/// Minimum number of turns of a plan: with fewer, smaller vectors are used. Making a plan takes
/// about as long as copying the bytes of this many of its turns.
const MIN_TURNS: usize = 16;

/// Maximum number of output vectors of a plan. Larger plans would take long to make.
const MAX_VECTORS: usize = 64;

/// The largest vectors (bytes) of a plan.
pub(super) const SHUFFLE_VECTOR_MAX_BYTES: usize = 64;

/// Index for a byte that comes from another input: its highest bit is set, and `pshufb` writes 0
/// there.
const EMPTY: u8 = 0x80;

/// What to do in one turn, which is repeated along both sides.
pub(super) struct ShufflePlan {
    /// Bytes of a vector: 16, or as many as the processor's longest vectors for shuffles have.
    pub(super) vector_bytes: usize,
    /// How many pixels, or matrices, one turn copies.
    pub(super) items_per_turn: usize,
    /// How many bytes both sides step from turn to turn.
    pub(super) source_step: isize,
    pub(super) target_step: isize,
    pub(super) outputs: Vec<Output>,
}

/// A vector of the target.
pub(super) struct Output {
    /// The row of the target that it is in.
    pub(super) row: usize,
    /// Where it begins in that row, in bytes.
    pub(super) offset: usize,
    pub(super) inputs: SmallVec<[Input; 3]>,
}

/// A vector of the source, and which of its bytes go where.
#[repr(align(64))]
pub(super) struct Input {
    /// Where it begins in the source, in bytes.
    pub(super) offset: isize,
    /// For each byte of the output the index of a byte of this input, or [`EMPTY`]. The first
    /// `vector_bytes` of them count.
    pub(super) indices: [u8; SHUFFLE_VECTOR_MAX_BYTES],
}

/// Where the first byte of a unit of the target comes from: `index` bytes into a stretch of
/// readable bytes that begins `base` bytes into the source.
struct SourceByte {
    base: isize,
    index: usize,
}

/// What all vectors of a plan have in common.
#[derive(Clone, Copy)]
struct Vectors {
    bytes: usize,
    unit: usize,
    /// Bytes of the stretches that [`SourceByte`] names.
    span: usize,
}

impl Output {
    /// The vector at `offset` in a row. `source` tells where the first byte of a unit of the row
    /// comes from.
    fn new(
        row: usize,
        offset: usize,
        vectors: Vectors,
        source: impl Fn(usize) -> SourceByte,
    ) -> Self {
        let Vectors { bytes, unit, span } = vectors;
        let mut inputs: SmallVec<[Input; 3]> = SmallVec::new();
        for lane in (0..bytes).step_by(unit) {
            let SourceByte { base, index } = source(offset + lane);
            let byte = base + index as isize;
            // The whole unit: planes of an overlapping source may be a part of a unit apart.
            let last = (bytes - unit) as isize;
            let reaches = |input: &Input| (0..=last).contains(&(byte - input.offset));
            let input = inputs.iter().position(reaches).unwrap_or_else(|| {
                // The vector stays within the stretch.
                let offset = base + index.min(span - bytes) as isize;
                inputs.push(Input { offset, indices: [EMPTY; SHUFFLE_VECTOR_MAX_BYTES] });
                inputs.len() - 1
            });
            let first = byte - inputs[input].offset;
            for (byte, index) in inputs[input].indices[lane..lane + unit].iter_mut().enumerate() {
                *index = first as u8 + byte as u8;
            }
        }
        Self { row, offset, inputs }
    }
}

/// Bytes of the vectors of a plan that copies `bytes` in all to vectors of `outputs` rows at once:
/// `longest`, the longest that the processor shuffles, if the plan has enough turns then.
pub(super) fn vector_bytes(bytes: usize, outputs: usize, longest: usize) -> usize {
    if bytes >= MIN_TURNS * outputs * longest { longest } else { VECTOR_BYTES }
}

impl ShufflePlan {
    /// Whether the vectors of a turn follow each other in the target, as those of matrices do.
    #[cfg_attr(
        any(miri, not(target_arch = "x86_64")),
        allow(dead_code, reason = "plans of AVX-512 have the longest vectors")
    )]
    pub(super) fn has_following_vectors(&self) -> bool {
        self.outputs.len() > 1 && self.source_step == self.target_step
    }

    /// How many bytes both sides step from item to item.
    pub(super) fn step_of_item(&self) -> PairedOffset {
        let step = |turn: isize| turn / self.items_per_turn as isize;
        PairedOffset { source: step(self.source_step), target: step(self.target_step) }
    }

    /// Copies contiguous pixels of `planes` units to `planes` rows, one for each unit of a pixel,
    /// with vectors of `vector` bytes.
    pub(super) fn deinterleave(planes: usize, unit: usize, vector: usize) -> Self {
        let vectors = Vectors { bytes: vector, unit, span: planes * vector };
        let output = |plane: usize| {
            Output::new(plane, 0, vectors, |byte| SourceByte {
                base: 0,
                index: (byte / unit * planes + plane) * unit,
            })
        };
        Self {
            vector_bytes: vector,
            items_per_turn: vector / unit,
            source_step: vectors.span as isize,
            target_step: vector as isize,
            outputs: (0..planes).map(output).collect(),
        }
    }

    /// Copies `planes` planes, which are `distance` bytes apart, to contiguous pixels, with vectors
    /// of `vector` bytes.
    pub(super) fn interleave(planes: usize, distance: isize, unit: usize, vector: usize) -> Self {
        let source = |byte: usize| {
            let (pixel, plane) = (byte / unit / planes, byte / unit % planes);
            SourceByte { base: plane as isize * distance, index: pixel * unit }
        };
        let vectors = Vectors { bytes: vector, unit, span: vector };
        let output = |index: usize| Output::new(0, index * vector, vectors, source);
        Self {
            vector_bytes: vector,
            items_per_turn: vector / unit,
            source_step: vector as isize,
            target_step: (planes * vector) as isize,
            outputs: (0..planes).map(output).collect(),
        }
    }

    /// Transposes contiguous matrices that follow each other, with vectors of `vector` bytes.
    /// `rows` and `columns` are those of a matrix of the target. `None` if the plan would be long.
    pub(super) fn transpose(
        rows: usize,
        columns: usize,
        unit: usize,
        vector: usize,
    ) -> Option<Self> {
        let matrix = rows * columns * unit;
        // As many matrices as fill whole vectors.
        let matrices = vector >> matrix.trailing_zeros().min(vector.trailing_zeros());
        let span = matrices * matrix;
        let source = |byte: usize| {
            let position = byte % matrix / unit;
            let transposed = position % columns * rows + position / columns;
            SourceByte { base: 0, index: byte / matrix * matrix + transposed * unit }
        };
        let vectors = Vectors { bytes: vector, unit, span };
        let output = |offset: usize| Output::new(0, offset, vectors, source);
        (span <= MAX_VECTORS * vector).then(|| Self {
            vector_bytes: vector,
            items_per_turn: matrices,
            source_step: span as isize,
            target_step: span as isize,
            outputs: (0..span).step_by(vector).map(output).collect(),
        })
    }
}
