//! Programs for small dimensions: pixels into planes, planes into pixels, many tiny matrices. Whole
//! vectors of the target are put together from vectors of the source.

use smallvec::SmallVec;

/// Bytes of a vector.
pub(super) const VECTOR_BYTES: usize = 16;

/// Writing a plan takes about as long as copying so many bytes without one.
pub(super) const SHUFFLE_MIN_BYTES: usize = 4 << 10;

/// Programs of more vectors would take long to write.
const MAX_VECTORS: usize = 64;

/// What to do again and again.
pub(super) struct ShufflePlan {
    /// How many pixels, or matrices, one turn takes.
    pub(super) turn: usize,
    /// How far both sides step from turn to turn.
    pub(super) from_step: isize,
    pub(super) to_step: isize,
    pub(super) outputs: Vec<Output>,
}

/// A vector of the target.
pub(super) struct Output {
    /// It begins in this row of the target, after so many bytes.
    pub(super) row: usize,
    pub(super) offset: usize,
    pub(super) inputs: SmallVec<[Input; 4]>,
}

/// A vector of the source, and which of its bytes go where: as `pshufb` wants it, with the highest bit
/// set where there is nothing to take.
pub(super) struct Input {
    pub(super) offset: isize,
    pub(super) bytes: [u8; VECTOR_BYTES],
}

impl Output {
    /// The vector at `offset` in a row. `source` tells where a byte of the row comes from: where a stretch
    /// of `span` readable bytes begins, and how far into it.
    fn new(row: usize, offset: usize, span: usize, source: impl Fn(usize) -> (isize, usize)) -> Self {
        let mut inputs: SmallVec<[Input; 4]> = SmallVec::new();
        for index in 0..VECTOR_BYTES {
            let (base, offset) = source(offset + index);
            let byte = base + offset as isize;
            let reaches = |input: &Input| (0..VECTOR_BYTES as isize).contains(&(byte - input.offset));
            let place = inputs.iter().position(reaches).unwrap_or_else(|| {
                // The vector stays within the stretch.
                let offset = base + offset.min(span - VECTOR_BYTES) as isize;
                inputs.push(Input { offset, bytes: [0x80; VECTOR_BYTES] });
                inputs.len() - 1
            });
            inputs[place].bytes[index] = (byte - inputs[place].offset) as u8;
        }
        Self { row, offset, inputs }
    }
}

impl ShufflePlan {
    /// Takes pixels of `planes` units, which follow each other, apart into that many rows.
    pub(super) fn deinterleave(planes: usize, unit: usize) -> Self {
        let span = planes * VECTOR_BYTES;
        let source = |plane: usize, index: usize| (index / unit * planes + plane) * unit + index % unit;
        let outputs = (0..planes).map(|plane| Output::new(plane, 0, span, |index| (0, source(plane, index))));
        Self {
            turn: VECTOR_BYTES / unit,
            from_step: span as isize,
            to_step: VECTOR_BYTES as isize,
            outputs: outputs.collect(),
        }
    }

    /// Puts planes, so many bytes apart, together to pixels that follow each other.
    pub(super) fn interleave(planes: usize, distance: isize, unit: usize) -> Self {
        let source = |index: usize| {
            let (pixel, plane) = (index / unit / planes, index / unit % planes);
            (plane as isize * distance, pixel * unit + index % unit)
        };
        let outputs = (0..planes).map(|vector| Output::new(0, vector * VECTOR_BYTES, VECTOR_BYTES, source));
        Self {
            turn: VECTOR_BYTES / unit,
            from_step: VECTOR_BYTES as isize,
            to_step: (planes * VECTOR_BYTES) as isize,
            outputs: outputs.collect(),
        }
    }

    /// Transposes matrices that follow each other: `rows` and `columns` as in the target.
    pub(super) fn transpose(rows: usize, columns: usize, unit: usize) -> Option<Self> {
        let matrix = rows * columns * unit;
        // As many as fill whole vectors.
        let turn = VECTOR_BYTES >> matrix.trailing_zeros().min(VECTOR_BYTES.trailing_zeros());
        let span = turn * matrix;
        let source = |index: usize| {
            let (place, byte) = (index % matrix / unit, index % unit);
            let place = place % columns * rows + place / columns;
            (0, index / matrix * matrix + place * unit + byte)
        };
        (span <= MAX_VECTORS * VECTOR_BYTES).then(|| Self {
            turn,
            from_step: span as isize,
            to_step: span as isize,
            outputs: (0..span).step_by(VECTOR_BYTES).map(|offset| Output::new(0, offset, span, source)).collect(),
        })
    }
}
