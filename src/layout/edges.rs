//! The items at the ends of long dimensions.

use super::{Layout, Scratch};

impl Layout {
    /// Returns the layout of the first and the last `items` items of each dimension that has more
    /// than `2 * items`. `items` is at least 1.
    ///
    /// Such a dimension becomes two: the end, and the item. All other dimensions stay, so that the
    /// row-major order of the elements stays, too.
    pub(crate) fn edges(&self, items: i64) -> Self {
        let (mut shape, mut strides) = (Scratch::new(), Scratch::new());
        let mut len = 1_usize;
        for (size, stride) in self.dims() {
            let is_long = size > items.saturating_mul(2);
            if is_long {
                shape.push(2);
                // It reaches an element of this layout, so that the product fits.
                strides.push(stride.saturating_mul(size.saturating_sub(items)));
            }
            let size = if is_long { items } else { size };
            shape.push(size);
            strides.push(stride);
            let kept = if is_long { items.saturating_mul(2) } else { size };
            len = len.saturating_mul(usize::try_from(kept).unwrap_or(0));
        }
        let rank = shape.len();
        Self::from_checked(shape.into_iter(), strides.into_iter(), rank, len)
    }
}

#[cfg(test)]
mod tests {
    use crate::layout::tests::layout;

    #[test]
    fn long_dimensions_keep_both_ends() {
        let edges = layout(&[2, 10, 7, 6], &[1000, 50, -7, 0]).edges(3);
        assert_eq!(edges.shape(), [2, 2, 3, 2, 3, 6]);
        assert_eq!(edges.strides(), [1000, 350, 50, -28, -7, 0]);
        assert_eq!(edges.len(), 2 * 6 * 6 * 6);
        let whole = layout(&[6, 1], &[1, 1]);
        assert_eq!(whole.edges(3), whole);
        assert_eq!(layout(&[], &[]).edges(3).len(), 1);
        assert!(layout(&[0, 9], &[9, 1]).edges(3).is_empty());
        let all_one = layout(&[1 << 40, 1 << 20], &[0, 0]).edges(1);
        assert_eq!((all_one.shape(), all_one.len()), (&[2, 1, 2, 1][..], 4));
    }
}
