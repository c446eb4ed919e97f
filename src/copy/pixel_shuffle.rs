//! The shuffle plan of a matrix with few rows or few columns: an image, whose pixels become planes,
//! or whose planes become pixels.

#![forbid(unsafe_code)]

use super::copy_plan::CopyPlan;
use super::processor::Processor;
use super::shuffle_plan::{SHUFFLE_MIN_BYTES, ShufflePlan, vector_bytes};
use super::sizes::{CACHE_LINE_BYTES, VECTOR_BYTES};
use crate::layout::paired::PairedDim;

/// Maximum number of planes for shuffles to whole cache lines of the target, if a pixel has as many
/// bytes as a vector or more. Vectors of more planes have more inputs, and squares in registers are
/// as fast.
const LINE_PLANES_MAX: usize = 4;

/// The largest pixel (bytes) of a plan.
pub(super) const PIXEL_MAX_BYTES: usize = LINE_PLANES_MAX * VECTOR_BYTES;

/// How most of a matrix with a small dimension is copied.
pub(super) enum PixelShuffle {
    /// The few rows of the matrix are the units of a pixel, contiguous in the source.
    Deinterleave(ShufflePlan),
    /// The few columns of the matrix are the units of a pixel, contiguous in the target.
    Interleave(ShufflePlan),
}

impl PixelShuffle {
    /// The shuffles for the matrix of a plan's kernel, which has no groups of columns, written with
    /// non-temporal stores or not. `None` if it is no image.
    pub(super) fn new(
        plan: &CopyPlan,
        rows: PairedDim,
        columns: PairedDim,
        processor: &Processor,
        nontemporal: bool,
    ) -> Option<Self> {
        if processor.shuffle.is_none() || plan.bytes() < SHUFFLE_MIN_BYTES {
            return None;
        }
        let unit = plan.unit;
        let to_lines = nontemporal && processor.shuffle_bytes == CACHE_LINE_BYTES;
        // Where there are as many units as a vector has, they are transposed as well as shuffled,
        // unless the shuffles write to the target.
        let few = |dim: PairedDim| {
            dim.count * unit < VECTOR_BYTES || to_lines && dim.count <= LINE_PLANES_MAX
        };
        let contiguous = |count: usize| (count * unit) as isize;
        let rows_follow = rows.source == contiguous(1);
        let bytes = rows.count * columns.count * unit;
        let vector = |few: PairedDim| vector_bytes(bytes, few.count, processor.shuffle_bytes);
        if few(rows) && rows_follow && columns.source == contiguous(rows.count) {
            let shuffle_plan = ShufflePlan::deinterleave(rows.count, unit, vector(rows));
            Some(Self::Deinterleave(shuffle_plan))
        } else if few(columns) && rows_follow && rows.target == contiguous(columns.count) {
            let (planes, distance) = (columns.count, columns.source);
            let shuffle_plan = ShufflePlan::interleave(planes, distance, unit, vector(columns));
            Some(Self::Interleave(shuffle_plan))
        } else {
            None
        }
    }
}
