//! Shape and strides: what a buffer looks like, with checked arithmetic throughout.
//!
//! Invariants of a [`Layout`], established by its constructors:
//! * shape and strides are of one length, which fits an `i32`; no size is negative;
//! * the number of elements fits an `isize` (it is 0 when any size is 0, whatever the others);
//! * the distance of every element from the first fits an `i64`.

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
mod measure;
pub(crate) mod paired;

use smallvec::SmallVec;

pub use clone_layout::MemoryFormat;
use measure::element_count;
pub(crate) use measure::measure;

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

    /// This shape, with strides that grow in the given order of dimensions and leave no gaps.
    fn dense(shape: &[i64], order: impl Iterator<Item = usize>) -> Self {
        let mut dims = Self::zeroed(shape.len());
        let (sizes, strides) = dims.split_mut();
        sizes.copy_from_slice(shape);
        let mut step = 1_i64;
        for dimension in order {
            if let (Some(size), Some(stride)) = (sizes.get(dimension), strides.get_mut(dimension)) {
                *stride = step;
                // Only a shape without elements can saturate, and there strides mean nothing.
                step = step.saturating_mul((*size).max(1));
            }
        }
        dims
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
    /// # Errors
    /// [`Error::InvalidDescriptor`] when a size is negative or the lengths differ, and
    /// [`Error::Overflow`] when the elements cannot be counted or reached on this machine.
    #[inline]
    pub fn new(shape: &[i64], strides: &[i64]) -> Result<Self> {
        if strides.len() != shape.len() {
            return Err(Error::InvalidDescriptor {
                field: "strides".into(),
                value: format!("{strides:?}"),
                reason: "there must be as many strides as dimensions",
            });
        }
        let measured = measure(shape, strides);
        let len = match &measured {
            Some(measured) => measured.len,
            None => element_count(shape)?,
        };
        let layout =
            Self::from_checked(shape.iter().copied(), strides.iter().copied(), shape.len(), len);
        if measured.is_none() && layout.extent_i128().is_none() {
            return Err(layout.overflow(0));
        }
        Ok(layout)
    }

    /// The row-major layout without gaps.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn contiguous(shape: &[i64]) -> Result<Self> {
        let len = element_count(shape)?;
        let order = (0..shape.len()).rev();
        Ok(Self { dims: Dims::dense(shape, order), len })
    }

    /// A layout of `rank` sizes and strides and of `len` elements. The caller guarantees the
    /// invariants of a layout, and that `len` is the product of the sizes.
    #[inline]
    pub(crate) fn from_checked(
        shape: impl Iterator<Item = i64>,
        strides: impl Iterator<Item = i64>,
        rank: usize,
        len: usize,
    ) -> Self {
        let mut dims = Dims::zeroed(rank);
        let (sizes, steps) = dims.split_mut();
        sizes.iter_mut().zip(shape).for_each(|(size, given)| *size = given);
        steps.iter_mut().zip(strides).for_each(|(step, given)| *step = given);
        Self { dims, len }
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

    /// The error for a layout whose bytes exceed the address space.
    pub(crate) fn overflow(&self, itemsize: usize) -> Error {
        Error::Overflow { shape: self.shape().into(), strides: self.strides().into(), itemsize }
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
