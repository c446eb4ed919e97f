//! Plans for shuffling bytes if a dimension is small: pixels become planes (deinterleaving), planes
//! become pixels (interleaving), or many tiny matrices are transposed. Each vector of the target is
//! the OR of byte shuffles (`pshufb`) of some vectors of the source.
//!
//! For example, one turn of deinterleaving RGB pixels of one byte copies 16 pixels, 48 bytes. The
//! vector of the reds has three inputs, which begin 0, 18 and 32 bytes into the source:
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

use smallvec::SmallVec;

use super::sizes::VECTOR_BYTES;

/// Minimum size (bytes) of a copy for which a shuffle plan is made. Making one takes about as long
/// as copying this many bytes without it.
pub(super) const SHUFFLE_MIN_BYTES: usize = 4 << 10;

/// Maximum number of output vectors of a plan. Larger plans would take long to make.
const MAX_VECTORS: usize = 64;

/// Index for a byte that comes from another input: `pshufb` writes 0 if the highest bit is set.
const EMPTY: u8 = 0x80;

/// What to do in one turn, which is repeated along both sides.
pub(super) struct ShufflePlan {
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
    pub(super) inputs: SmallVec<[Input; 4]>,
}

/// A vector of the source, and which of its bytes go where.
pub(super) struct Input {
    /// Where it begins in the source, in bytes.
    pub(super) offset: isize,
    /// For each byte of the output the index of a byte of this input, or [`EMPTY`].
    pub(super) indices: [u8; VECTOR_BYTES],
}

/// Where a byte of the target comes from: `index` bytes into a stretch of readable bytes that
/// begins `base` bytes into the source.
struct SourceByte {
    base: isize,
    index: usize,
}

impl Output {
    /// The vector at `offset` in a row. `source` tells where a byte of the row comes from; the
    /// stretches that it names are `span` bytes long.
    fn new(row: usize, offset: usize, span: usize, source: impl Fn(usize) -> SourceByte) -> Self {
        let mut inputs: SmallVec<[Input; 4]> = SmallVec::new();
        for lane in 0..VECTOR_BYTES {
            let SourceByte { base, index } = source(offset + lane);
            let byte = base + index as isize;
            let reaches =
                |input: &Input| (0..VECTOR_BYTES as isize).contains(&(byte - input.offset));
            let input = inputs.iter().position(reaches).unwrap_or_else(|| {
                // The vector stays within the stretch.
                let offset = base + index.min(span - VECTOR_BYTES) as isize;
                inputs.push(Input { offset, indices: [EMPTY; VECTOR_BYTES] });
                inputs.len() - 1
            });
            inputs[input].indices[lane] = (byte - inputs[input].offset) as u8;
        }
        Self { row, offset, inputs }
    }
}

impl ShufflePlan {
    /// Copies contiguous pixels of `planes` units to `planes` rows, one for each unit of a pixel.
    pub(super) fn deinterleave(planes: usize, unit: usize) -> Self {
        let span = planes * VECTOR_BYTES;
        let output = |plane: usize| {
            Output::new(plane, 0, span, |byte| SourceByte {
                base: 0,
                index: (byte / unit * planes + plane) * unit + byte % unit,
            })
        };
        Self {
            items_per_turn: VECTOR_BYTES / unit,
            source_step: span as isize,
            target_step: VECTOR_BYTES as isize,
            outputs: (0..planes).map(output).collect(),
        }
    }

    /// Copies `planes` planes, which are `distance` bytes apart, to contiguous pixels.
    pub(super) fn interleave(planes: usize, distance: isize, unit: usize) -> Self {
        let source = |byte: usize| {
            let (pixel, plane) = (byte / unit / planes, byte / unit % planes);
            SourceByte { base: plane as isize * distance, index: pixel * unit + byte % unit }
        };
        let output = |vector: usize| Output::new(0, vector * VECTOR_BYTES, VECTOR_BYTES, source);
        Self {
            items_per_turn: VECTOR_BYTES / unit,
            source_step: VECTOR_BYTES as isize,
            target_step: (planes * VECTOR_BYTES) as isize,
            outputs: (0..planes).map(output).collect(),
        }
    }

    /// Transposes contiguous matrices that follow each other. `rows` and `columns` are those of a
    /// matrix of the target. `None` if the plan would be long.
    pub(super) fn transpose(rows: usize, columns: usize, unit: usize) -> Option<Self> {
        let matrix = rows * columns * unit;
        // As many matrices as fill whole vectors.
        let matrices = VECTOR_BYTES >> matrix.trailing_zeros().min(VECTOR_BYTES.trailing_zeros());
        let span = matrices * matrix;
        let source = |byte: usize| {
            let position = byte % matrix / unit;
            let transposed = position % columns * rows + position / columns;
            let index = byte / matrix * matrix + transposed * unit + byte % unit;
            SourceByte { base: 0, index }
        };
        let output = |offset: usize| Output::new(0, offset, span, source);
        (span <= MAX_VECTORS * VECTOR_BYTES).then(|| Self {
            items_per_turn: matrices,
            source_step: span as isize,
            target_step: span as isize,
            outputs: (0..span).step_by(VECTOR_BYTES).map(output).collect(),
        })
    }
}
