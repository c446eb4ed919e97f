//! Shape and strides: what a buffer looks like, with checked arithmetic throughout.
//!
//! Invariants of a [`Layout`], established by its constructors:
//! * shape and strides are of one length, which fits an `i32`; no size is negative;
//! * the number of elements fits an `isize` (it is 0 when any size is 0, whatever the others);
//! * the distance of every element from the first fits an `i64`;
//! * strides that reach no element are harmless, whatever the numbers were that came in: see
//!   [`harmless`].

#![forbid(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

mod clone_layout;
mod contiguity;
mod harmless;
mod measure;
pub(crate) mod paired;

use smallvec::SmallVec;

pub use clone_layout::MemoryFormat;
use measure::{check_sizes, element_count, measure};

use crate::tuple::Tuple;
use crate::{Error, Result};

/// Up to this rank a layout needs no allocation of its own.
const INLINE_RANK: usize = 4;

/// The highest rank that libtorch's operations support.
pub(crate) const TORCH_RANK: usize = 64;

/// A list with one entry per dimension, which seldom needs an allocation.
type Scratch<T> = SmallVec<[T; 6]>;

/// Shape and strides of a buffer, both in elements.
#[derive(Clone)]
pub struct Layout {
    dims: Dims,
    len: usize,
}

#[derive(Clone)]
enum Dims {
    Inline {
        rank: usize,
        shape: [i64; INLINE_RANK],
        strides: [i64; INLINE_RANK],
    },
    /// The shape, then the strides.
    Heap(Box<[i64]>),
}

impl Dims {
    /// `rank` sizes and strides, all of them 0.
    #[inline]
    fn zeroed(rank: usize) -> Self {
        if rank <= INLINE_RANK {
            Self::Inline { rank, shape: [0; INLINE_RANK], strides: [0; INLINE_RANK] }
        } else {
            Self::Heap(vec![0; rank.saturating_mul(2)].into())
        }
    }

    /// `rank` sizes and strides from elsewhere. Each number is taken once.
    #[inline]
    fn collect(
        rank: usize,
        shape: impl Iterator<Item = i64>,
        strides: impl Iterator<Item = i64>,
    ) -> Self {
        let mut dims = Self::zeroed(rank);
        let (sizes, steps) = dims.split_mut();
        sizes.iter_mut().zip(shape).for_each(|(size, given)| *size = given);
        steps.iter_mut().zip(strides).for_each(|(step, given)| *step = given);
        dims
    }

    /// This shape, with strides that grow in the given order of dimensions and leave no gaps.
    fn dense(shape: &[i64], order: impl Iterator<Item = usize>) -> Self {
        let mut dims = Self::collect(shape.len(), shape.iter().copied(), std::iter::empty());
        dims.set_dense(order);
        dims
    }

    /// Sets strides that grow in the given order of dimensions and leave no gaps.
    fn set_dense(&mut self, order: impl Iterator<Item = usize>) {
        let (sizes, strides) = self.split_mut();
        let mut step = 1_i64;
        for dimension in order {
            if let (Some(size), Some(stride)) = (sizes.get(dimension), strides.get_mut(dimension)) {
                *stride = step;
                // Only a shape without elements can saturate, and there strides mean nothing.
                step = step.saturating_mul((*size).max(1));
            }
        }
    }

    /// The shape and the strides.
    #[inline]
    fn split(&self) -> (&[i64], &[i64]) {
        match self {
            Self::Inline { rank, shape, strides } => {
                (shape.split_at(*rank).0, strides.split_at(*rank).0)
            }
            Self::Heap(dims) => dims.split_at(dims.len() >> 1),
        }
    }

    #[inline]
    fn split_mut(&mut self) -> (&mut [i64], &mut [i64]) {
        match self {
            Self::Inline { rank, shape, strides } => {
                (shape.split_at_mut(*rank).0, strides.split_at_mut(*rank).0)
            }
            Self::Heap(dims) => dims.split_at_mut(dims.len() >> 1),
        }
    }
}

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.dims.split() == other.dims.split()
    }
}

impl Eq for Layout {}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layout")
            .field("shape", &self.shape())
            .field("strides", &self.strides())
            .finish()
    }
}

impl Layout {
    /// A layout of any strides: positive, negative, zero.
    ///
    /// The strides of a layout without elements, and those of dimensions of size 1, reach nothing.
    /// Numbers that another library might trip over are replaced there: an empty layout becomes
    /// row-major, and a dimension of size 1 gets the stride that `torch.unsqueeze` gives unless its
    /// own is positive and does not lead outside the elements.
    ///
    /// ```
    /// use dlbridge::Layout;
    ///
    /// assert_eq!(Layout::new(&[0, 3], &[-7, i64::MAX])?.strides(), [3, 1]);
    /// assert_eq!(Layout::new(&[1, 3], &[-3, 1])?.strides(), [3, 1]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] when a size is negative or the lengths differ, and
    /// [`Error::Overflow`] when the elements cannot be counted or reached on this machine.
    #[inline]
    pub fn new(shape: &[i64], strides: &[i64]) -> Result<Self> {
        if strides.len() != shape.len() {
            return Err(Error::InvalidDescriptor {
                field: "strides".into(),
                value: Tuple(strides).to_string(),
                reason: "there must be as many strides as dimensions",
            });
        }
        Self::copied(shape.len(), shape.iter().copied(), strides.iter().copied())
    }

    /// Copies `rank` sizes and strides, each of which is taken once, and then checks the copy: the
    /// numbers may change where they come from.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    #[inline]
    pub(crate) fn copied(
        rank: usize,
        shape: impl Iterator<Item = i64>,
        strides: impl Iterator<Item = i64>,
    ) -> Result<Self> {
        let dims = Dims::collect(rank, shape, strides);
        let (sizes, steps) = dims.split();
        match measure(sizes, steps) {
            Some(len) => Ok(Self::harmless(dims, len)),
            None => Self::checked_in_detail(dims),
        }
    }

    fn checked_in_detail(dims: Dims) -> Result<Self> {
        let (sizes, steps) = dims.split();
        check_sizes(sizes)?;
        let overflow =
            || Error::Overflow { shape: sizes.into(), strides: steps.into(), element_bits: None };
        let len = element_count(sizes).ok_or_else(overflow)?;
        let layout = Self { dims, len };
        if layout.extent_i128().is_none() {
            return Err(layout.overflow(None));
        }
        Ok(Self::harmless(layout.dims, len))
    }

    /// The row-major layout without gaps.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn contiguous(shape: &[i64]) -> Result<Self> {
        Self::copied_contiguous(shape.len(), shape.iter().copied())
    }

    /// The row-major layout of `rank` sizes, each of which is taken once.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub(crate) fn copied_contiguous(rank: usize, shape: impl Iterator<Item = i64>) -> Result<Self> {
        let mut dims = Dims::collect(rank, shape, std::iter::empty());
        let sizes = dims.split().0;
        check_sizes(sizes)?;
        let Some(len) = element_count(sizes) else {
            let (shape, strides) = (sizes.into(), Vec::new());
            return Err(Error::Overflow { shape, strides, element_bits: None });
        };
        dims.set_dense((0..rank).rev());
        Ok(Self { dims, len })
    }

    /// A layout of `rank` sizes and strides and of `len` elements. The caller guarantees that `len`
    /// is the product of the sizes, and that sizes and distances are as a layout's are.
    #[inline]
    pub(crate) fn from_checked(
        shape: impl Iterator<Item = i64>,
        strides: impl Iterator<Item = i64>,
        rank: usize,
        len: usize,
    ) -> Self {
        Self::harmless(Dims::collect(rank, shape, strides), len)
    }

    /// Sizes of the dimensions.
    #[inline]
    pub fn shape(&self) -> &[i64] {
        self.dims.split().0
    }

    /// Steps between neighbours in each dimension, in elements.
    #[inline]
    pub fn strides(&self) -> &[i64] {
        self.dims.split().1
    }

    /// Addresses of the sizes and of the strides, for structs that DLPack shares with other code.
    #[inline]
    pub(crate) fn as_mut_ptrs(&mut self) -> (*mut i64, *mut i64) {
        let (shape, strides) = self.dims.split_mut();
        (shape.as_mut_ptr(), strides.as_mut_ptr())
    }

    /// Number of dimensions.
    #[inline]
    pub fn ndim(&self) -> usize {
        self.shape().len()
    }

    /// Number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn dims(&self) -> impl DoubleEndedIterator<Item = (i64, i64)> + ExactSizeIterator {
        self.shape().iter().copied().zip(self.strides().iter().copied())
    }

    /// The error for a layout whose elements, of `element_bits` bits, exceed the address space.
    pub(crate) fn overflow(&self, element_bits: Option<u32>) -> Error {
        let (shape, strides) = (self.shape().into(), self.strides().into());
        Error::Overflow { shape, strides, element_bits }
    }

    pub(crate) fn not_contiguous(&self) -> Error {
        Error::NotContiguous { shape: self.shape().into(), strides: self.strides().into() }
    }

    pub(crate) fn self_overlap(&self) -> Error {
        Error::SelfOverlap { shape: self.shape().into(), strides: self.strides().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn layout(shape: &[i64], strides: &[i64]) -> Layout {
        Layout::new(shape, strides).expect("a valid layout")
    }
}
