//! Views that only select, reorder or repeat elements. The rules for arguments are torch's.
//!
//! Every function gives a [`View`]: the new layout, and the distance from the first element of the
//! source to the first element of the view.

use super::view::View;
use super::{Layout, Scratch};
use crate::tuple::Tuple;
use crate::{Error, Result};

impl Layout {
    /// Returns the view whose dimension `i` is dimension `dims[i]` of this layout.
    pub(crate) fn permuted(&self, dims: &[i64]) -> Result<View> {
        let (expected, found) = (self.ndim(), dims.len());
        if expected != found {
            return Err(Error::RankMismatch { expected, found });
        }
        self.require_distinct(dims)?;
        let own = self.to_dims();
        let permuted: Result<Scratch<(i64, i64)>> = dims
            .iter()
            .map(|&dim| self.dimension(dim).map(|dim| own.get(dim).copied().unwrap_or_default()))
            .collect();
        self.view(&permuted?, 0)
    }

    /// Returns the view with two dimensions swapped.
    pub(crate) fn transposed(&self, dim0: i64, dim1: i64) -> Result<View> {
        let (dim0, dim1) = (self.dimension_or_scalar(dim0)?, self.dimension_or_scalar(dim1)?);
        let mut dims = self.to_dims();
        // A layout of rank 0 has no dimension 0.
        if dim0 != dim1 {
            dims.swap(dim0, dim1);
        }
        self.view(&dims, 0)
    }

    /// Returns the view of the indices from `start` up to `end`, `step` apart, in one dimension.
    /// Bounds that are out of range are clamped.
    pub(crate) fn sliced(
        &self,
        dim: i64,
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    ) -> Result<View> {
        let dim = self.dimension(dim)?;
        if step == 0 {
            return Err(self.no_view("the step of a slice cannot be 0".into()));
        }
        let mut dims = self.to_dims();
        let Some((size, stride)) = dims.get_mut(dim) else { return self.view(&dims, 0) };
        let (first, count) = slice_indices(*size, start, end, step);
        let offset = first.wrapping_mul(*stride);
        let stepped = match count {
            _ if self.is_empty() => *stride,
            // The stride of a dimension of size 0 or 1 takes part in no address.
            0 | 1 => stride.saturating_mul(step),
            _ => stride.checked_mul(step).ok_or_else(|| self.overflow(None))?,
        };
        (*size, *stride) = (count, stepped);
        self.view(&dims, offset)
    }

    /// Returns the view of one index of a dimension, without that dimension.
    pub(crate) fn selected(&self, dim: i64, index: i64) -> Result<View> {
        let dim = self.dimension(dim)?;
        let mut dims = self.to_dims();
        let (size, stride) = dims.remove(dim);
        let index = wrapped("index", index, size)?;
        self.view(&dims, index.wrapping_mul(stride))
    }

    /// Returns the view with the order of the indices reversed in these dimensions.
    pub(crate) fn flipped(&self, dims: &[i64]) -> Result<View> {
        self.require_distinct(dims)?;
        let mut flipped = self.to_dims();
        if self.is_empty() {
            return self.view(&flipped, 0);
        }
        let mut offset = 0_i64;
        for &dim in dims {
            let dim = self.dimension_or_scalar(dim)?;
            let Some((size, stride)) = flipped.get_mut(dim) else { continue };
            // The distance of the last index fits. That of several last indices may not.
            let last = size.saturating_sub(1).wrapping_mul(*stride);
            let reversed = offset.checked_add(last).zip(stride.checked_neg());
            (offset, *stride) = reversed.ok_or_else(|| self.overflow(None))?;
        }
        self.view(&flipped, offset)
    }

    /// Returns the view with this shape, in which dimensions of size 1, and new dimensions before
    /// the first, repeat the same elements. A size of -1 keeps the size.
    pub(crate) fn expanded(&self, shape: &[i64]) -> Result<View> {
        let Some(added) = shape.len().checked_sub(self.ndim()) else {
            return Err(self.no_view(format!("shape {} has fewer dimensions", Tuple(shape))));
        };
        let own = std::iter::repeat_n(None, added).chain(self.dims().map(Some));
        let expanded: Result<Scratch<(i64, i64)>> = own
            .zip(shape)
            .enumerate()
            .map(|(dim, (own, &target))| match own {
                None if target == -1 => Err(self.no_view(format!(
                    "dimension {dim} of shape {} is new, so it has no size that -1 keeps",
                    Tuple(shape)
                ))),
                None => Ok((target, 0)),
                Some((size, stride)) if target == size || target == -1 => Ok((size, stride)),
                Some((1, _)) => Ok((target, 0)),
                Some((size, _)) => Err(self.no_view(format!(
                    "dimension {dim} of shape {} does not keep size {size}, and only size 1 can \
                     be expanded",
                    Tuple(shape)
                ))),
            })
            .collect();
        self.view(&expanded?, 0)
    }

    /// Returns the view without the dimensions of size 1.
    pub(crate) fn squeezed(&self) -> Result<View> {
        let dims: Scratch<(i64, i64)> = self.dims().filter(|&(size, _)| size != 1).collect();
        self.view(&dims, 0)
    }

    /// Returns the view without dimension `dim` if its size is 1, and otherwise this layout.
    pub(crate) fn squeezed_at(&self, dim: i64) -> Result<View> {
        let dim = self.dimension_or_scalar(dim)?;
        let mut dims = self.to_dims();
        if dims.get(dim).is_some_and(|&(size, _)| size == 1) {
            dims.remove(dim);
        }
        self.view(&dims, 0)
    }

    /// Returns the view with a new dimension of size 1 before dimension `dim`.
    pub(crate) fn unsqueezed(&self, dim: i64) -> Result<View> {
        let dim = dimension_of(dim, self.ndim().saturating_add(1))?;
        let mut dims = self.to_dims();
        dims.insert(dim, (1, 0));
        self.view(&dims, 0)
    }

    /// Returns the view with these sizes and strides, whose first element is `offset` elements
    /// after the first element of this layout.
    pub(crate) fn as_strided(&self, shape: &[i64], strides: &[i64], offset: i64) -> Result<View> {
        self.checked_view(Self::new(shape, strides)?, offset, !self.has_gaps())
    }

    /// Fails if a dimension occurs twice.
    fn require_distinct(&self, dims: &[i64]) -> Result<()> {
        let mut seen: Scratch<bool> = std::iter::repeat_n(false, self.ndim().max(1)).collect();
        for &dim in dims {
            let dim = self.dimension_or_scalar(dim)?;
            if seen.get_mut(dim).is_some_and(|seen| std::mem::replace(seen, true)) {
                let reason = format!("dimension {dim} occurs twice in {}", Tuple(dims));
                return Err(self.no_view(reason));
            }
        }
        Ok(())
    }

    /// Returns the index of dimension `dim`, which counts from the end if it is negative.
    #[inline]
    fn dimension(&self, dim: i64) -> Result<usize> {
        dimension_of(dim, self.ndim())
    }

    /// As [`dimension`](Self::dimension), but a layout of rank 0 counts as having a dimension 0.
    #[inline]
    fn dimension_or_scalar(&self, dim: i64) -> Result<usize> {
        dimension_of(dim, self.ndim().max(1))
    }
}

/// Returns the index of dimension `dim` of `rank`; a negative `dim` counts from the end.
#[inline]
fn dimension_of(dim: i64, rank: usize) -> Result<usize> {
    let dim = wrapped("dimension", dim, i64::try_from(rank).unwrap_or(i64::MAX))?;
    // The index is below the rank.
    Ok(usize::try_from(dim).unwrap_or(usize::MAX))
}

/// Returns `value` as a number from 0 to `count - 1`; a negative `value` counts from the end.
#[inline]
fn wrapped(name: &'static str, value: i64, count: i64) -> Result<i64> {
    let (min, max) = (count.saturating_neg(), count.saturating_sub(1));
    if (min..=max).contains(&value) {
        Ok(if value < 0 { value.saturating_add(count) } else { value })
    } else {
        Err(Error::OutOfRange { name, value, min, max })
    }
}

/// Returns the first index of a slice of `size` indices, and the number of indices, by NumPy's
/// rule. Negative bounds count from the end. Bounds that are out of range are clamped: with a
/// positive step to 0 and `size`, with a negative step to -1 and `size - 1`.
fn slice_indices(size: i64, start: Option<i64>, end: Option<i64>, step: i64) -> (i64, i64) {
    let forward = step > 0;
    let (lowest, highest) = if forward { (0, size) } else { (-1, size.saturating_sub(1)) };
    let clamped = |bound: i64| {
        let bound = if bound < 0 { bound.saturating_add(size) } else { bound };
        bound.clamp(lowest, highest)
    };
    let (first, last) = if forward { (lowest, highest) } else { (highest, lowest) };
    let (start, end) = (start.map_or(first, clamped), end.map_or(last, clamped));
    let distance = if forward { end.saturating_sub(start) } else { start.saturating_sub(end) };
    if distance <= 0 {
        return (0, 0);
    }
    let between = distance.saturating_sub(1).unsigned_abs();
    let count = between.checked_div(step.unsigned_abs()).unwrap_or(0).saturating_add(1);
    (start, i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::tests::layout;
    use super::*;

    /// The indices that Python's `range(*slice(start, end, step).indices(size))` gives, by the
    /// rules of Python's reference: bounds count from the end if negative, and are then clamped.
    fn python_range(size: i64, start: Option<i64>, end: Option<i64>, step: i64) -> Vec<i64> {
        let (lower, upper) = if step < 0 { (-1, size.saturating_sub(1)) } else { (0, size) };
        let adjust = |bound: i64| match i128::from(bound) {
            bound if bound < 0 => bound.saturating_add(size.into()).max(lower.into()),
            bound => bound.min(upper.into()),
        };
        let (step, first, last) = match step < 0 {
            true => (i128::from(step), upper, lower),
            false => (i128::from(step), lower, upper),
        };
        let mut index = start.map_or(first.into(), adjust);
        let end = end.map_or(last.into(), adjust);
        let mut indices = Vec::new();
        while if step < 0 { index > end } else { index < end } {
            indices.push(i64::try_from(index).expect("an index"));
            index = index.saturating_add(step);
        }
        indices
    }

    #[test]
    fn slices_have_the_indices_of_python() {
        let extremes = [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX];
        let bounds: Vec<Option<i64>> = (-8..=8).chain(extremes).map(Some).chain([None]).collect();
        let steps: Vec<i64> = (-8..=8).chain(extremes).filter(|&step| step != 0).collect();
        let mut cases = 0;
        for size in 0..=6 {
            for (&start, &end) in
                bounds.iter().flat_map(|start| bounds.iter().map(move |end| (start, end)))
            {
                for &step in &steps {
                    let expected = python_range(size, start, end, step);
                    let (first, count) = slice_indices(size, start, end, step);
                    let indices: Vec<i64> =
                        (0..count).map(|step_of| first + step_of * step).collect();
                    assert_eq!(indices, expected, "{size}: {start:?} {end:?} {step}");
                    cases += 1;
                }
            }
        }
        assert_eq!(cases, 7 * 22 * 22 * 20);
    }

    #[test]
    fn distances_that_do_not_fit_are_refused() {
        // The elements reach from -i64::MAX to i64::MAX.
        let far = layout(&[2, 2], &[i64::MAX, -i64::MAX]);
        assert!(matches!(far.flipped(&[0]), Err(Error::Overflow { .. })));
        assert!(matches!(far.flipped(&[1]), Err(Error::Overflow { .. })));
        let both = far.flipped(&[0, 1]).expect("from the other end");
        assert_eq!((both.offset(), both.into_layout().strides()), (0, &[-i64::MAX, i64::MAX][..]));
        // The stride has no positive counterpart.
        let lowest = layout(&[2], &[i64::MIN]);
        assert!(matches!(lowest.flipped(&[0]), Err(Error::Overflow { .. })));
        assert!(matches!(lowest.sliced(0, None, None, -1), Err(Error::Overflow { .. })));
        assert_eq!(lowest.selected(0, 1).expect("an element").offset(), i64::MIN);
    }

    #[test]
    fn strides_that_reach_no_element_overflow_nothing() {
        let empty = layout(&[0, 3, i64::MAX], &[1, 1, 1]);
        let shape = |view: Result<View>| view.expect("no element").into_layout().shape().to_vec();
        assert_eq!(shape(empty.flipped(&[0, 1, 2])), [0, 3, i64::MAX]);
        assert_eq!(shape(empty.sliced(1, None, None, 2)), [0, 2, i64::MAX]);
        assert_eq!(shape(empty.sliced(1, None, None, -1)), [0, 3, i64::MAX]);
    }

    #[test]
    fn views_that_reach_beyond_their_source_are_refused() {
        let source = layout(&[3], &[-2]); // elements -4 to 0
        for (shape, strides, offset, fits) in [
            (&[5][..], &[1][..], -4, true),
            (&[5], &[-1], 0, true),
            (&[5], &[1], -3, false),
            (&[5], &[-1], -1, false),
            (&[1], &[1], 1, false),
            (&[1], &[1], -5, false),
            (&[1], &[1], i64::MIN, false),
            (&[2], &[i64::MAX], i64::MIN, false),
            (&[], &[], i64::MAX, false),
            (&[0, 7], &[1, 1], i64::MAX, true),
        ] {
            let view = source.as_strided(shape, strides, offset);
            assert_eq!(view.is_ok(), fits, "{shape:?} {strides:?} {offset}");
            assert!(view.is_ok_and(|view| view.is_among_elements()) == shape.contains(&0));
        }
        let empty = layout(&[0], &[1]);
        assert!(matches!(empty.as_strided(&[1], &[1], 0), Err(Error::InvalidView { .. })));
        assert!(matches!(empty.as_strided(&[], &[], 0), Err(Error::InvalidView { .. })));
    }
}
