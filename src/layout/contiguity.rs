//! Checks for gaps between the elements of a layout, and for overlapping elements.

use super::{Layout, Scratch};

impl Layout {
    /// Returns true if the elements follow each other in row-major order, without gaps.
    ///
    /// The strides of dimensions of size 1 are ignored, and all strides if there are no elements.
    ///
    /// ```
    /// use dlbridge::Layout;
    ///
    /// assert!(Layout::new(&[2, 3], &[3, 1])?.is_contiguous());
    /// assert!(!Layout::new(&[2, 3], &[4, 1])?.is_contiguous()); // a gap behind each row
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1_i64;
        self.is_empty()
            || self.dims().rev().filter(|&(size, _)| size != 1).all(|(size, stride)| {
                let fits = stride == expected;
                expected = expected.saturating_mul(size);
                fits
            })
    }

    /// Returns true if two indices may reach the same element.
    ///
    /// The result is also true for dimensions that interleave: that is, if a stride is not larger
    /// than the distance that all dimensions with smaller strides reach together. `ndarray` has the
    /// same rule.
    ///
    /// ```
    /// use dlbridge::Layout;
    ///
    /// assert!(!Layout::contiguous([2, 3])?.overlaps());
    /// assert!(Layout::new(&[2, 3], &[0, 1])?.overlaps()); // both rows are the same elements
    /// assert!(Layout::new(&[3, 2], &[2, 3])?.overlaps()); // 0 3, 2 5, 4 7: interleaved
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn overlaps(&self) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut dims: Scratch<(u64, i64)> = self
            .dims()
            .filter(|&(size, _)| size > 1)
            .map(|(size, stride)| (stride.unsigned_abs(), size))
            .collect();
        dims.sort_unstable();
        // A dimension nests outside the smaller ones if its stride exceeds all that they reach.
        let mut reach = 0_i128;
        let nested = dims.iter().all(|&(stride, size)| {
            let clear = i128::from(stride) > reach;
            let steps = i128::from(size.saturating_sub(1));
            reach = reach.saturating_add(steps.saturating_mul(i128::from(stride)));
            clear
        });
        !nested
    }

    /// Returns true if some element between the lowest and the highest is not an element of this
    /// layout.
    pub(super) fn has_gaps(&self) -> bool {
        let mut dims: Scratch<(u64, i64)> = self
            .dims()
            .filter(|&(size, stride)| size > 1 && stride != 0)
            .map(|(size, stride)| (stride.unsigned_abs(), size))
            .collect();
        dims.sort_unstable();
        // The dimensions so far reach all elements of a block of `reach + 1`. A further dimension
        // repeats that block, and leaves no gap if the blocks touch or overlap.
        let mut reach = 0_i128;
        let touching = dims.iter().all(|&(stride, size)| {
            let touches = i128::from(stride) <= reach.saturating_add(1);
            let steps = i128::from(size.saturating_sub(1));
            reach = reach.saturating_add(steps.saturating_mul(i128::from(stride)));
            touches
        });
        !touching
    }

    /// Returns true if two layouts reach the same elements from the same first element, in the same
    /// order. The strides of dimensions of size 1 are ignored.
    #[cfg(any(feature = "ndarray", feature = "ndarray-0_16"))]
    pub(crate) fn is_same_order(&self, other: &Self) -> bool {
        let mut dims = self.dims().zip(other.strides());
        self.shape() == other.shape()
            && (self.is_empty() || dims.all(|((size, one), &other)| size == 1 || one == other))
    }
}

/// Returns true if the dimensions, in some order, have neither gaps nor overlaps. The caller
/// guarantees that no stride is negative.
pub(super) fn is_dense(shape: &[i64], strides: &[i64]) -> bool {
    let mut dims: Scratch<(i64, i64)> =
        strides.iter().copied().zip(shape.iter().copied()).filter(|&(_, size)| size > 1).collect();
    dims.sort_unstable();
    let mut expected = 1_i64;
    dims.into_iter().all(|(stride, size)| {
        let fits = stride == expected;
        expected = expected.saturating_mul(size);
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::layout;

    #[test]
    fn is_contiguous_ignores_strides_that_do_not_matter() {
        assert!(layout(&[1, 3], &[100, 1]).is_contiguous());
        assert!(layout(&[3, 1], &[1, -7]).is_contiguous());
        assert!(layout(&[0, 3], &[9, 9]).is_contiguous());
        assert!(layout(&[], &[]).is_contiguous());
        assert!(!layout(&[3, 2], &[1, 3]).is_contiguous());
        assert!(!layout(&[3], &[-1]).is_contiguous());
    }

    #[test]
    fn gaps_are_found_in_every_order_of_dimensions() {
        for (shape, strides) in [
            (&[2_i64, 3][..], &[4_i64, 1][..]),
            (&[3, 2], &[1, -4]),
            (&[3], &[2]),
            (&[2, 2, 2], &[7, 2, 1]),
        ] {
            assert!(layout(shape, strides).has_gaps(), "{shape:?} {strides:?}");
        }
        for (shape, strides) in [
            (&[][..], &[][..]),
            (&[2, 3], &[3, 1]),
            (&[3, 2], &[-1, 3]),
            (&[5, 3], &[0, 1]),
            (&[3, 3], &[1, 1]),
            (&[3, 2], &[2, 1]),
            (&[2, 0], &[9, 9]),
        ] {
            assert!(!layout(shape, strides).has_gaps(), "{shape:?} {strides:?}");
        }
    }

    #[test]
    fn dimensions_that_do_not_nest_overlap() {
        assert!(layout(&[3, 3], &[1, 1]).overlaps());
        assert!(layout(&[4], &[0]).overlaps());
        assert!(!layout(&[4, 5], &[-5, 1]).overlaps());
        assert!(layout(&[3, 2], &[2, 3]).overlaps(), "0 2 4 3 5 7: interleaved");
        assert!(layout(&[4, 2], &[2, 6]).overlaps(), "6 twice");
        assert!(!layout(&[1, 0], &[0, 0]).overlaps());
    }
}
