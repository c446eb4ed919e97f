//! The shape and the strides of a buffer, with checked arithmetic throughout.
//!
//! Invariants of a [`Layout`], which its constructors establish:
//! * Shape and strides have the same length, which fits an `i32`. No size is negative.
//! * The number of elements fits an `isize`. (It is 0 if any size is 0.)
//! * The distance from the first element to every other element fits an `i64`.
//! * Strides that take part in no element's address are harmless: see [`harmless`].

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
mod dims;
mod edges;
mod harmless;
mod measure;
pub(crate) mod paired;
mod reshape;
mod view;
mod views;

use smallvec::SmallVec;

pub use clone_layout::MemoryFormat;
use dims::Dims;
use measure::{check_sizes, element_count, measure};
pub(crate) use view::View;

use crate::tuple::Tuple;
use crate::{Error, Result, Shape};

/// The highest rank that libtorch's operations support.
pub(crate) const TORCH_RANK: usize = 64;

/// A list with one entry per dimension, which needs an allocation only for ranks above 6.
type Scratch<T> = SmallVec<[T; 6]>;

/// Shape and strides of a buffer, both in elements.
///
/// ```
/// use dlbridge::Layout;
///
/// let layout = Layout::contiguous([2, 3])?;
/// assert_eq!((layout.shape(), layout.strides()), (&[2, 3][..], &[3, 1][..]));
/// let transposed = Layout::new(&[3, 2], &[1, 3])?;
/// assert!(layout.is_contiguous() && !transposed.is_contiguous());
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[derive(Clone)]
pub struct Layout {
    dims: Dims,
    len: usize,
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
    /// Returns a layout with these strides, which may be positive, negative or zero.
    ///
    /// The strides of a layout without elements and of dimensions of size 1 take part in no
    /// element's address, but other libraries may refuse them or overflow. Such strides are
    /// replaced: a layout without elements becomes row-major. A dimension of size 1 gets the stride
    /// that `torch.unsqueeze` gives, unless its own stride is positive and at most the number of
    /// elements from the lowest to the highest.
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

    /// Copies `rank` sizes and strides, each of which is read once, and then checks the copy. Other
    /// code may change the originals during the call.
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

    /// Returns the row-major layout without gaps.
    ///
    /// ```
    /// use dlbridge::Layout;
    ///
    /// assert_eq!(Layout::contiguous([2, 3, 4])?.strides(), [12, 4, 1]);
    /// assert!(Layout::contiguous([2, -1]).is_err()); // no size is negative
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    #[inline]
    pub fn contiguous(shape: impl Shape) -> Result<Self> {
        let sizes = shape.sizes()?;
        let sizes = sizes.as_ref();
        Self::copied_contiguous(sizes.len(), sizes.iter().copied())
    }

    /// Returns the row-major layout of `rank` sizes, each of which is read once.
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

    /// Returns a layout of `rank` sizes and strides. The caller guarantees that `len` is the
    /// product of the sizes, and that sizes and distances meet the invariants of a layout.
    #[inline(always)]
    pub(crate) fn from_checked(
        shape: impl Iterator<Item = i64>,
        strides: impl Iterator<Item = i64>,
        rank: usize,
        len: usize,
    ) -> Self {
        Self::harmless(Dims::collect(rank, shape, strides), len)
    }

    /// Returns the size of each dimension.
    ///
    /// ```
    /// assert_eq!(dlbridge::Layout::contiguous([2, 3])?.shape(), [2, 3]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn shape(&self) -> &[i64] {
        self.dims.split().0
    }

    /// Returns the stride of each dimension: the distance to the next index, in elements.
    ///
    /// ```
    /// use dlbridge::Layout;
    ///
    /// let broadcast = Layout::new(&[2, 3], &[0, 1])?; // both rows are the same three elements
    /// assert_eq!(broadcast.strides(), [0, 1]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn strides(&self) -> &[i64] {
        self.dims.split().1
    }

    /// Returns the size and the stride of one dimension, or `None` if there is no such dimension.
    #[inline]
    #[cfg(any(feature = "ndarray", feature = "ndarray-0_16"))]
    pub(crate) fn dim(&self, dimension: usize) -> Option<(i64, i64)> {
        self.dims.get(dimension)
    }

    /// Returns the addresses of the sizes and of the strides, for DLPack structs.
    #[inline]
    pub(crate) fn as_mut_ptrs(&mut self) -> (*mut i64, *mut i64) {
        let (shape, strides) = self.dims.split_mut();
        (shape.as_mut_ptr(), strides.as_mut_ptr())
    }

    /// Returns the number of dimensions.
    ///
    /// ```
    /// assert_eq!(dlbridge::Layout::contiguous(())?.ndim(), 0); // a single element
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn ndim(&self) -> usize {
        self.shape().len()
    }

    /// Returns the number of elements: the product of the sizes.
    ///
    /// ```
    /// use dlbridge::Layout;
    ///
    /// assert_eq!(Layout::new(&[2, 3], &[0, 1])?.len(), 6); // equal addresses are counted, too
    /// assert_eq!(Layout::contiguous(())?.len(), 1);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are no elements, because some size is 0.
    ///
    /// ```
    /// assert!(dlbridge::Layout::contiguous([2, 0])?.is_empty());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn dims(&self) -> impl DoubleEndedIterator<Item = (i64, i64)> + ExactSizeIterator {
        self.shape().iter().copied().zip(self.strides().iter().copied())
    }

    /// Returns the error for elements of `element_bits` bits that exceed the address space.
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
