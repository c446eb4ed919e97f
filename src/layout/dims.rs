//! The sizes and strides of a layout, without an allocation for the usual ranks.

/// The highest rank for which a layout needs no heap allocation.
const INLINE_RANK: usize = 4;

/// One number for each dimension, up to [`INLINE_RANK`] of them.
pub(super) type Entries = [i64; INLINE_RANK];

/// A rank from 0 to [`INLINE_RANK`]. The type says so to the compiler, which then checks no bounds.
///
/// It takes a whole word: a move of a layout copies words, and a processor is slow to load a word
/// of which it has just stored one byte.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(super) enum InlineRank {
    Zero,
    One,
    Two,
    Three,
    Four,
}

impl InlineRank {
    #[inline]
    fn new(rank: usize) -> Option<Self> {
        Some(match rank {
            0 => Self::Zero,
            1 => Self::One,
            2 => Self::Two,
            3 => Self::Three,
            4 => Self::Four,
            _ => return None,
        })
    }
}

/// As many sizes as strides.
#[derive(Clone)]
pub(super) enum Dims {
    /// The entries behind the first `rank` ones have no meaning.
    Inline { rank: InlineRank, shape: Entries, strides: Entries },
    /// The shape, then the strides.
    Heap(Box<[i64]>),
}

impl Dims {
    /// Collects `rank` sizes and strides, which the iterators give. Each number is read once.
    /// Entries that an iterator does not give are 0.
    #[inline(always)]
    pub(super) fn collect(
        rank: usize,
        shape: impl Iterator<Item = i64>,
        strides: impl Iterator<Item = i64>,
    ) -> Self {
        match InlineRank::new(rank) {
            Some(rank) => {
                Self::Inline { rank, shape: first_entries(shape), strides: first_entries(strides) }
            }
            None => Self::on_heap(rank, shape, strides),
        }
    }

    fn on_heap(
        rank: usize,
        shape: impl Iterator<Item = i64>,
        strides: impl Iterator<Item = i64>,
    ) -> Self {
        let mut dims = Self::Heap(vec![0; rank.saturating_mul(2)].into());
        let (sizes, steps) = dims.split_mut();
        sizes.iter_mut().zip(shape).for_each(|(size, given)| *size = given);
        steps.iter_mut().zip(strides).for_each(|(step, given)| *step = given);
        dims
    }

    /// Returns this shape with strides that grow in the given order of dimensions, without gaps.
    pub(super) fn dense(shape: &[i64], order: impl Iterator<Item = usize>) -> Self {
        let mut dims = Self::collect(shape.len(), shape.iter().copied(), std::iter::empty());
        dims.set_dense(order);
        dims
    }

    /// Sets strides that grow in the given order of dimensions, without gaps.
    pub(super) fn set_dense(&mut self, order: impl Iterator<Item = usize>) {
        let (sizes, strides) = self.split_mut();
        let mut step = 1_i64;
        for dimension in order {
            if let (Some(size), Some(stride)) = (sizes.get(dimension), strides.get_mut(dimension)) {
                *stride = step;
                // Only a shape without elements can saturate, where strides have no meaning.
                step = step.saturating_mul((*size).max(1));
            }
        }
    }

    /// The shape and the strides.
    #[inline]
    pub(super) fn split(&self) -> (&[i64], &[i64]) {
        match self {
            Self::Inline { rank, shape, strides } => {
                let rank = *rank as usize;
                (shape.split_at(rank).0, strides.split_at(rank).0)
            }
            Self::Heap(dims) => dims.split_at(dims.len() >> 1),
        }
    }

    /// The size and the stride of one dimension, or `None` if there is no such dimension.
    #[inline]
    #[cfg(any(feature = "ndarray", feature = "ndarray-0_16"))]
    pub(super) fn get(&self, dimension: usize) -> Option<(i64, i64)> {
        match self {
            Self::Inline { rank, shape, strides } if dimension < *rank as usize => {
                Some((*shape.get(dimension)?, *strides.get(dimension)?))
            }
            Self::Inline { .. } => None,
            Self::Heap(dims) => get_on_heap(dims, dimension),
        }
    }

    #[inline]
    pub(super) fn split_mut(&mut self) -> (&mut [i64], &mut [i64]) {
        match self {
            Self::Inline { rank, shape, strides } => {
                let rank = *rank as usize;
                (shape.split_at_mut(rank).0, strides.split_at_mut(rank).0)
            }
            Self::Heap(dims) => dims.split_at_mut(dims.len() >> 1),
        }
    }
}

/// A function of its own, so that the code for the usual ranks stays small.
#[inline(never)]
#[cfg(any(feature = "ndarray", feature = "ndarray-0_16"))]
fn get_on_heap(dims: &[i64], dimension: usize) -> Option<(i64, i64)> {
    let (shape, strides) = dims.split_at(dims.len() >> 1);
    Some((*shape.get(dimension)?, *strides.get(dimension)?))
}

/// The first entries that an iterator gives, and 0 for those that it does not give.
#[inline(always)]
fn first_entries(entries: impl Iterator<Item = i64>) -> Entries {
    let mut entries = entries.fuse();
    std::array::from_fn(|_| entries.next().unwrap_or(0))
}
