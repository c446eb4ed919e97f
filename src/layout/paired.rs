//! The dimensions of two layouts of the same shape, for a strided copy, which steps through both
//! layouts together. They are sorted by the strides of the target, the largest first, and merged
//! into as few dimensions as possible.
//!
//! A copy from the transpose of a contiguous (4, 3, 2) array into a contiguous (2, 3, 4) one, with
//! strides in elements:
//!
//! ```text
//!                      count  source  target
//! insert_strides dim 0     2       1      12
//!                dim 1     3       2       4
//!                dim 2     4       6       1
//! coalesce       dims 0 and 1 stay apart: 3 steps of dim 1 move the target by 12, as one step of
//!                dim 0 does, but the source by 6 instead of 1
//! ```
//!
//! A copy between two contiguous arrays becomes one dimension, whatever their rank.
//!
//! This module is arithmetic only. The caller chooses whether strides and offsets are in bytes or
//! in elements; all numbers of one list have the same unit.

use smallvec::SmallVec;

/// One dimension of a source and of a target: the number of its indices, and its stride in the
/// source and in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PairedDim {
    pub(crate) count: usize,
    pub(crate) source: isize,
    pub(crate) target: isize,
}

impl PairedDim {
    /// A dimension with a single index.
    pub(crate) const ONE: Self = Self { count: 1, source: 0, target: 0 };

    /// Returns this dimension counted from its other end, and the offset of that end.
    #[inline]
    fn flipped(self) -> (Self, PairedOffset) {
        // Both products are offsets of an element, so they fit an `isize`.
        let last = self.count.wrapping_sub(1).cast_signed();
        let offset = PairedOffset {
            source: last.wrapping_mul(self.source),
            target: last.wrapping_mul(self.target),
        };
        let (source, target) = (self.source.wrapping_neg(), self.target.wrapping_neg());
        (Self { source, target, ..self }, offset)
    }

    /// Merges this dimension and `inner`, if one step of this dimension is as long as `inner.count`
    /// steps of `inner`, in the source and in the target.
    #[inline]
    fn coalesced(self, inner: Self) -> Option<Self> {
        let whole = |stride: isize| stride.checked_mul(inner.count.cast_signed());
        let as_one =
            whole(inner.source) == Some(self.source) && whole(inner.target) == Some(self.target);
        // The number of elements fits an `isize`.
        as_one.then(|| Self { count: self.count.wrapping_mul(inner.count), ..inner })
    }
}

/// An offset in the source, and an offset in the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PairedOffset {
    pub(crate) source: isize,
    pub(crate) target: isize,
}

/// Paired dimensions, the outermost first.
///
/// Invariant: the pairs of source and target offsets that the dimensions reach, counted from
/// `start`, are those of the layouts that the list was made from, and each pair occurs as often as
/// there. The caller guarantees that all these offsets, and the number of elements, fit an `isize`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PairedDims {
    pub(crate) dims: SmallVec<[PairedDim; 6]>,
    /// Offset of the first pair from the first element of the layouts. It is 0 unless a dimension
    /// was counted from its other end.
    pub(crate) start: PairedOffset,
}

impl PairedDims {
    /// Inserts the dimensions of two layouts of the same shape, except those of size 1: see
    /// [`insert`](Self::insert). Strides are multiplied by `scale`. With the size of an element as
    /// `scale`, the list is in bytes.
    ///
    /// The caller guarantees that every size is positive.
    #[inline]
    pub(crate) fn insert_strides(
        &mut self,
        shape: &[i64],
        source: &[i64],
        target: &[i64],
        scale: usize,
    ) {
        // All offsets fit an `isize`, so the strides of dimensions with two or more indices do,
        // too.
        #[expect(clippy::cast_possible_truncation, reason = "fits, see above")]
        let scaled = |stride: i64| (stride as isize).wrapping_mul(scale.cast_signed());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and a factor of a number of elements that fits"
        )]
        let unsigned = |size: i64| size as usize;
        for ((&size, &source), &target) in shape.iter().zip(source).zip(target) {
            if size != 1 {
                let (source, target) = (scaled(source), scaled(target));
                self.insert(PairedDim { count: unsigned(size), source, target });
            }
        }
    }

    /// Inserts a dimension in the order of the target's strides: before all dimensions with a
    /// smaller stride, and behind those with an equal one. A dimension with a negative target
    /// stride is counted from its other end first, which negates the stride.
    #[inline]
    pub(crate) fn insert(&mut self, dim: PairedDim) {
        let dim = if dim.target < 0 { self.flip(dim) } else { dim };
        let inside = |other: &PairedDim| other.target >= dim.target;
        let index = self.dims.iter().rposition(inside).map_or(0, |index| index.wrapping_add(1));
        self.dims.insert(index, dim);
    }

    /// Counts a dimension that is not in the list from its other end: moves the start there, and
    /// returns the dimension with both strides negated.
    #[inline]
    pub(crate) fn flip(&mut self, dim: PairedDim) -> PairedDim {
        let (flipped, offset) = dim.flipped();
        self.advance(offset);
        flipped
    }

    /// Moves the start.
    #[inline]
    pub(crate) fn advance(&mut self, offset: PairedOffset) {
        // The start is the offset of an element, so it fits an `isize`.
        self.start.source = self.start.source.wrapping_add(offset.source);
        self.start.target = self.start.target.wrapping_add(offset.target);
    }

    /// Merges neighbouring dimensions that step through both layouts as one dimension would.
    #[inline]
    pub(crate) fn coalesce(&mut self) {
        self.dims.dedup_by(|inner, outer| match outer.coalesced(*inner) {
            Some(one) => {
                *outer = one;
                true
            }
            None => false,
        });
    }
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "the numbers of these tests are small, and a panic is a failure"
)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn from_strides(shape: &[i64], source: &[i64], target: &[i64], scale: usize) -> PairedDims {
        let mut paired = PairedDims::default();
        paired.insert_strides(shape, source, target, scale);
        paired
    }

    fn dim(count: usize, source: isize, target: isize) -> PairedDim {
        PairedDim { count, source, target }
    }

    /// All pairs of offsets that the dimensions reach, in ascending order.
    fn pairs(paired: &PairedDims) -> Vec<(isize, isize)> {
        let mut pairs = vec![(paired.start.source, paired.start.target)];
        for dim in &paired.dims {
            let steps = 0..dim.count.cast_signed();
            pairs = pairs
                .iter()
                .flat_map(|&(source, target)| {
                    let step =
                        move |index| (source + index * dim.source, target + index * dim.target);
                    steps.clone().map(step)
                })
                .collect();
        }
        pairs.sort_unstable();
        pairs
    }

    #[test]
    fn contiguous_on_both_sides_is_one_dimension() {
        let mut paired = from_strides(&[2, 1, 3, 4], &[12, 7, 4, 1], &[12, 9, 4, 1], 8);
        paired.coalesce();
        assert_eq!(paired.dims[..], [dim(24, 8, 8)]);
        assert_eq!(paired.start, PairedOffset::default());
    }

    #[test]
    fn dimensions_that_one_side_separates_stay_apart() {
        let mut paired = from_strides(&[2, 3, 4], &[1, 2, 6], &[12, 4, 1], 1);
        paired.coalesce();
        assert_eq!(paired.dims[..], [dim(2, 1, 12), dim(3, 2, 4), dim(4, 6, 1)]);
    }

    #[test]
    fn negative_target_strides_are_counted_from_the_other_end() {
        let mut paired = from_strides(&[3, 4], &[-4, -1], &[-4, -1], 2);
        paired.coalesce();
        assert_eq!(paired.dims[..], [dim(12, 2, 2)]);
        assert_eq!(paired.start, PairedOffset { source: -22, target: -22 });
        let reversed = from_strides(&[5], &[1], &[-1], 1);
        assert_eq!(reversed.dims[..], [dim(5, -1, 1)]);
        assert_eq!(reversed.start, PairedOffset { source: 4, target: -4 });
    }

    #[test]
    fn broadcast_dimensions_coalesce_among_themselves() {
        let mut paired = from_strides(&[5, 2, 3], &[0, 0, 1], &[6, 3, 1], 1);
        paired.coalesce();
        assert_eq!(paired.dims[..], [dim(10, 0, 3), dim(3, 1, 1)]);
    }

    #[test]
    fn dimensions_of_size_one_are_left_out_whatever_their_strides() {
        let paired = from_strides(&[1, 1], &[i64::MIN, 3], &[i64::MAX, -3], 4);
        assert_eq!(paired, PairedDims::default());
    }

    fn config() -> ProptestConfig {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn order_and_coalescing_keep_all_pairs_of_offsets(
            dims in vec((1_i64..6, -40_i64..40, -40_i64..40), 0..5),
            scale in 1_usize..5,
        ) {
            let shape: Vec<i64> = dims.iter().map(|&(size, _, _)| size).collect();
            let source: Vec<i64> = dims.iter().map(|&(_, source, _)| source).collect();
            let target: Vec<i64> = dims.iter().map(|&(_, _, target)| target).collect();
            let scaled = |stride: i64| stride as isize * scale as isize;
            let given = dims.iter().map(|&(size, s, t)| dim(size as usize, scaled(s), scaled(t)));
            let given = PairedDims { dims: given.collect(), start: PairedOffset::default() };
            let mut paired = from_strides(&shape, &source, &target, scale);
            prop_assert_eq!(pairs(&paired), pairs(&given));
            let ordered = |paired: &PairedDims| {
                let targets: Vec<isize> = paired.dims.iter().map(|dim| dim.target).collect();
                targets.is_sorted_by(|outer, inner| outer >= inner)
                    && targets.iter().all(|&target| target >= 0)
            };
            prop_assert!(ordered(&paired), "{:?}", paired);
            paired.coalesce();
            prop_assert_eq!(pairs(&paired), pairs(&given));
            prop_assert!(ordered(&paired), "{:?}", paired);
            // Nothing is left to coalesce.
            let mut again = paired.clone();
            again.coalesce();
            prop_assert_eq!(&again, &paired);
        }

        /// However a contiguous memory is cut into dimensions, and in whatever order these come.
        #[test]
        fn equal_dense_layouts_are_one_dimension(
            shape in vec(1_i64..5, 0..6),
            order in any::<u64>(),
            scale in 1_usize..17,
        ) {
            let mut strides = vec![1_i64; shape.len()];
            for index in (1..shape.len()).rev() {
                strides[index - 1] = strides[index] * shape[index];
            }
            let mut dims: Vec<(i64, i64)> = shape.into_iter().zip(strides).collect();
            if !dims.is_empty() {
                let turn = order as usize % dims.len();
                dims.rotate_left(turn);
            }
            let (shape, strides): (Vec<i64>, Vec<i64>) = dims.into_iter().unzip();
            let mut paired = from_strides(&shape, &strides, &strides, scale);
            paired.coalesce();
            let elements: i64 = shape.iter().product();
            let expected: &[PairedDim] = &[dim(elements as usize, scale as isize, scale as isize)];
            prop_assert_eq!(&paired.dims[..], if elements == 1 { &[] } else { expected });
        }
    }
}
