//! The number of a layout's elements and their distances from the first one. Both are checked once,
//! when a layout is made.

use super::Layout;
use crate::{Error, Result};

/// Returns the number of elements in the usual case: there is at least one element, and neither the
/// number of elements nor the distance of any element from the first exceeds 63 bits. `None` means
/// "not the usual case"; the caller then checks the shape and the strides in more detail.
#[inline]
pub(super) fn measure(shape: &[i64], strides: &[i64]) -> Option<usize> {
    let (mut count, mut low, mut high) = (1_i64, 0_i64, 0_i64);
    for (&size, &stride) in shape.iter().zip(strides) {
        if size <= 0 {
            return None;
        }
        count = count.checked_mul(size)?;
        let reach = size.wrapping_sub(1).checked_mul(stride)?;
        if reach < 0 {
            low = low.checked_add(reach)?;
        } else {
            high = high.checked_add(reach)?;
        }
    }
    i32::try_from(shape.len()).ok()?;
    isize::try_from(count).ok().and_then(|count| usize::try_from(count).ok())
}

/// Refuses too many dimensions and negative sizes.
pub(super) fn check_sizes(shape: &[i64]) -> Result<()> {
    if i32::try_from(shape.len()).is_err() {
        return Err(Error::TooManyDimensions {
            found: shape.len(),
            limit: i32::MAX.unsigned_abs() as usize,
            target: "DLPack",
        });
    }
    for (dimension, &size) in shape.iter().enumerate() {
        if size < 0 {
            return Err(Error::InvalidDescriptor {
                field: format!("shape[{dimension}]"),
                value: size.to_string(),
                reason: "a size cannot be negative",
            });
        }
    }
    Ok(())
}

/// Returns the product of sizes that are not negative, or `None` if it does not fit an `isize`.
pub(super) fn element_count(shape: &[i64]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .try_fold(1_isize, |count, &size| count.checked_mul(isize::try_from(size).ok()?))
        .and_then(|count| usize::try_from(count).ok())
}

impl Layout {
    /// Returns the distances from the first element to the lowest and to the highest, in elements.
    ///
    /// The first element is the one with index 0 in every dimension. The result is `None` if there
    /// are no elements.
    ///
    /// ```
    /// use dlbridge::Layout;
    ///
    /// assert_eq!(Layout::contiguous([2, 3])?.extent(), Some((0, 5)));
    /// assert_eq!(Layout::new(&[3, 2], &[-2, 1])?.extent(), Some((-4, 1)));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn extent(&self) -> Option<(i64, i64)> {
        if self.is_empty() {
            return None;
        }
        let (mut low, mut high) = (0_i64, 0_i64);
        for (size, stride) in self.dims() {
            // The invariant of a layout says that all distances fit an `i64`: nothing wraps.
            let reach = size.saturating_sub(1).wrapping_mul(stride);
            low = low.wrapping_add(reach.min(0));
            high = high.wrapping_add(reach.max(0));
        }
        Some((low, high))
    }

    /// As [`extent`](Self::extent), for distances that may not fit an `i64`: then the result is
    /// `None`. Without elements it is (0, 0).
    pub(super) fn extent_i128(&self) -> Option<(i128, i128)> {
        let (mut low, mut high) = (0_i128, 0_i128);
        if self.is_empty() {
            return Some((low, high));
        }
        for (size, stride) in self.dims() {
            let reach = i128::from(size.saturating_sub(1)).saturating_mul(i128::from(stride));
            low = low.saturating_add(reach.min(0));
            high = high.saturating_add(reach.max(0));
        }
        let fits = |distance: i128| i64::try_from(distance).is_ok();
        (fits(low) && fits(high)).then_some((low, high))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::layout;
    use super::*;

    #[test]
    fn sizes_are_checked() {
        let negative = Layout::contiguous([2, -1]);
        assert!(
            matches!(negative, Err(Error::InvalidDescriptor { field, .. }) if field == "shape[1]")
        );
        let huge = Layout::contiguous([1_i64 << 62, 8]).expect_err("too many");
        let huge = huge.to_string();
        assert_eq!(
            huge,
            "shape (4611686018427387904, 8) exceeds the address space for every element type"
        );
        assert!(matches!(Layout::new(&[2], &[]), Err(Error::InvalidDescriptor { .. })));
        assert!(matches!(Layout::new(&[3], &[i64::MAX]), Err(Error::Overflow { .. })));
        assert!(matches!(Layout::new(&[3], &[i64::MIN]), Err(Error::Overflow { .. })));
        assert_eq!(layout(&[1 << 62, 1 << 62, 0], &[i64::MIN, 5, i64::MAX]).len(), 0);
        assert_eq!(layout(&[1], &[i64::MIN]).len(), 1);
    }

    #[test]
    fn extent_covers_negative_strides() {
        assert_eq!(layout(&[3, 2], &[-2, 1]).extent(), Some((-4, 1)));
        assert_eq!(layout(&[], &[]).extent(), Some((0, 0)));
        assert_eq!(layout(&[0, 5], &[7, 7]).extent(), None);
    }
}
