//! Where the elements of a layout are: an element loop that knows nothing of dlbridge.

#![forbid(unsafe_code)]

/// Sizes and strides, both in elements, of which nothing is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Sizes of the dimensions.
    pub(crate) shape: Vec<i64>,
    /// Steps between neighbours.
    pub(crate) strides: Vec<i64>,
}

impl Grid {
    /// Row-major, without gaps.
    pub(crate) fn row_major(shape: Vec<i64>) -> Self {
        let mut strides = vec![1; shape.len()];
        let mut next = 1_i64;
        for (stride, &size) in strides.iter_mut().zip(&shape).rev() {
            *stride = next;
            next = next.saturating_mul(size);
        }
        Self { shape, strides }
    }

    /// Number of elements; `None` if it exceeds an `i64` or a size is negative.
    pub(crate) fn count(&self) -> Option<i64> {
        if self.shape.iter().any(|&size| size < 0) {
            return None;
        }
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape.iter().try_fold(1_i64, |count, &size| count.checked_mul(size))
    }

    /// Distances of the lowest and the highest element from the first; `None` when there are no
    /// elements; of no meaning if a size is negative.
    pub(crate) fn extent(&self) -> Option<(i128, i128)> {
        if self.shape.contains(&0) {
            return None;
        }
        let (mut low, mut high) = (0_i128, 0_i128);
        for (&size, &stride) in self.shape.iter().zip(&self.strides) {
            let reach = (i128::from(size) - 1).saturating_mul(i128::from(stride));
            low = low.saturating_add(reach.min(0));
            high = high.saturating_add(reach.max(0));
        }
        Some((low, high))
    }

    /// Distances of all elements from the first, in row-major order of their indices. The grid is
    /// small: no distance exceeds an `i64`.
    pub(crate) fn offsets(&self) -> Vec<i64> {
        let count = self.count().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        let mut offsets = Vec::with_capacity(count);
        if count == 0 {
            return offsets;
        }
        let rank = self.shape.len();
        let Some((&size, &stride)) = self.shape.last().zip(self.strides.last()) else {
            return vec![0];
        };
        let mut index = vec![0_i64; rank - 1];
        let mut start = 0_i64;
        while offsets.len() < count {
            let step = |index: i64| start.wrapping_add(index.wrapping_mul(stride));
            offsets.extend((0..size).map(step));
            for dimension in (0..rank - 1).rev() {
                index[dimension] += 1;
                start = start.wrapping_add(self.strides[dimension]);
                if index[dimension] < self.shape[dimension] {
                    break;
                }
                let whole = self.shape[dimension].wrapping_mul(self.strides[dimension]);
                start = start.wrapping_sub(whole);
                index[dimension] = 0;
            }
        }
        offsets
    }

    /// Whether two indices reach the same element: looks at all of them.
    pub(crate) fn repeats(&self) -> bool {
        let offsets = self.offsets();
        let (Some(&low), Some(&high)) = (offsets.iter().min(), offsets.iter().max()) else {
            return false;
        };
        let span = usize::try_from(high.saturating_sub(low))
            .map_or(usize::MAX, |span| span.saturating_add(1));
        if span < offsets.len() {
            return true;
        }
        if span > 1 << 24 {
            // Far apart, and few.
            let mut sorted = offsets;
            sorted.sort_unstable();
            return sorted.windows(2).any(|pair| pair[0] == pair[1]);
        }
        let mut seen = vec![false; span];
        offsets.iter().any(|&offset| std::mem::replace(&mut seen[(offset - low) as usize], true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_nested_loops() {
        let grid = Grid { shape: vec![2, 3], strides: vec![-10, 2] };
        assert_eq!(grid.offsets(), [0, 2, 4, -10, -8, -6]);
        assert_eq!(grid.extent(), Some((-10, 4)));
        assert_eq!(Grid::row_major(vec![]).offsets(), [0]);
        assert_eq!(Grid::row_major(vec![3, 0]).offsets(), [0_i64; 0]);
        assert_eq!(Grid::row_major(vec![2, 3, 4]).strides, [12, 4, 1]);
    }

    #[test]
    fn repeated_elements_are_seen() {
        assert!(Grid { shape: vec![2, 2], strides: vec![1, 1] }.repeats());
        assert!(!Grid { shape: vec![3, 2], strides: vec![2, 3] }.repeats());
        assert!(!Grid { shape: vec![2], strides: vec![1 << 40] }.repeats());
        assert!(!Grid { shape: vec![0, 2], strides: vec![1, 0] }.repeats());
    }
}
