//! Views: other shapes, strides and first elements for the same memory.
//!
//! A view of a tensor is the tensor itself with another description: the handle moves, and with it
//! the reference to the storage, the access state and the stream. The storage keeps the owner of
//! the whole memory, but elements that a view left out cannot be reached through it:
//!
//! * A view lies within the bytes from the lowest to the highest element of the tensor that it was
//!   made from. The arithmetic is in [`layout`](crate::layout), whose `View` proves this.
//! * Code that gives an owner back (a `Vec`, an array, a libtorch tensor) compares the description
//!   with that of the owner first.

#![forbid(unsafe_code)]

use super::Tensor;
use crate::layout::View;
#[cfg(doc)]
use crate::{Error, MemoryFormat};
use crate::{Layout, Rejected, Result, Shape};

/// Views: other shapes, strides and first elements for the same memory.
///
/// The methods move the tensor, and copy no element. Names, arguments and results are PyTorch's;
/// differences are noted. Negative dimensions count from the end. On failure the tensor comes back
/// inside the error as it was. For a view beside the tensor, call [`share`](Self::share) first;
/// then neither of the two handles may write.
///
/// A view cannot be widened again: its handle reaches nothing else. A view of a part of a `Vec`
/// or an array does not become that `Vec` or array again.
impl Tensor {
    /// Reorders the dimensions: dimension `i` of the result is dimension `dims[i]` of the tensor.
    ///
    /// Nothing is copied. This is PyTorch's `permute` and NumPy's `transpose` with axes.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let image = Tensor::zeros::<u8>([480, 640, 3])?; // height, width, channel
    /// let planes = image.permute([2, 0, 1])?; // channel, height, width
    /// assert_eq!((planes.shape(), planes.strides()), (&[3, 480, 640][..], &[1, 1920, 3][..]));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::RankMismatch`] unless there are as many numbers as dimensions;
    /// [`Error::OutOfRange`]; [`Error::InvalidView`] if a dimension occurs twice. The tensor comes
    /// back inside the error.
    pub fn permute(self, dims: impl AsRef<[i64]>) -> Result<Self, Rejected<Self>> {
        self.viewed(|layout| layout.permuted(dims.as_ref()))
    }

    /// Swaps two dimensions.
    ///
    /// Nothing is copied. This is PyTorch's `transpose` and NumPy's `swapaxes`.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let rows = Tensor::from_vec(vec![1, 2, 3, 4, 5, 6], [2, 3])?;
    /// let columns = rows.transpose(0, 1)?;
    /// assert_eq!(columns.to_list()?.to_string(), "[[1, 4], [2, 5], [3, 6]]");
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`]. The tensor comes back inside the error.
    pub fn transpose(self, dim0: i64, dim1: i64) -> Result<Self, Rejected<Self>> {
        self.viewed(|layout| layout.transposed(dim0, dim1))
    }

    /// Takes the indices from `start` up to `end` (exclusive), `step` apart, in one dimension.
    ///
    /// Nothing is copied. This is NumPy's `array[start:end:step]` in dimension `dim`: negative
    /// bounds count from the end, and bounds that are out of range are clamped. `None` is the first
    /// index for `start`, and the end for `end`. With a negative step, which PyTorch does not have,
    /// `None` is the last index for `start`, and for `end` it means that index 0 is included.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let numbers = || Tensor::from_vec((0..6).collect::<Vec<i32>>(), [6]);
    /// assert_eq!(numbers()?.slice(0, 1, 4, 1)?.to_vec::<i32>()?, [1, 2, 3]);
    /// assert_eq!(numbers()?.slice(0, -2, None, 1)?.to_vec::<i32>()?, [4, 5]);
    /// assert_eq!(numbers()?.slice(0, None, 100, 4)?.to_vec::<i32>()?, [0, 4]);
    /// assert_eq!(numbers()?.slice(0, None, None, -2)?.to_vec::<i32>()?, [5, 3, 1]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a dimension that does not exist; [`Error::InvalidView`] if `step`
    /// is 0; [`Error::UnsupportedDType`] if packed elements of the slice do not begin at a byte.
    /// The tensor comes back inside the error.
    pub fn slice(
        self,
        dim: i64,
        start: impl Into<Option<i64>>,
        end: impl Into<Option<i64>>,
        step: i64,
    ) -> Result<Self, Rejected<Self>> {
        let (start, end) = (start.into(), end.into());
        self.viewed(|layout| layout.sliced(dim, start, end, step))
    }

    /// Takes one index of a dimension. The result does not have that dimension.
    ///
    /// Nothing is copied. A negative index counts from the end.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let rows = Tensor::from_vec(vec![1, 2, 3, 4, 5, 6], [2, 3])?;
    /// let last_row = rows.select(0, -1)?;
    /// assert_eq!(last_row.as_slice::<i32>()?, [4, 5, 6]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; [`Error::UnsupportedDType`] as for [`slice`](Self::slice). The tensor
    /// comes back inside the error.
    pub fn select(self, dim: i64, index: i64) -> Result<Self, Rejected<Self>> {
        self.viewed(|layout| layout.selected(dim, index))
    }

    /// Reverses the order of the indices in these dimensions.
    ///
    /// Nothing is copied: the strides become negative. PyTorch's `flip` copies. libtorch has no
    /// negative strides: `into_torch` refuses the result, and `to_torch` copies it.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let rows = Tensor::from_vec(vec![1, 2, 3, 4, 5, 6], [2, 3])?;
    /// let mirrored = rows.flip([-1])?;
    /// assert_eq!(mirrored.strides(), [3, -1]);
    /// assert_eq!(mirrored.to_list()?.to_string(), "[[3, 2, 1], [6, 5, 4]]");
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; [`Error::InvalidView`] if a dimension occurs twice;
    /// [`Error::UnsupportedDType`] as for [`slice`](Self::slice). The tensor comes back inside the
    /// error.
    pub fn flip(self, dims: impl AsRef<[i64]>) -> Result<Self, Rejected<Self>> {
        self.viewed(|layout| layout.flipped(dims.as_ref()))
    }

    /// Repeats the elements of dimensions of size 1, and adds dimensions before the first.
    ///
    /// Nothing is copied: the strides of these dimensions become 0. A size of -1 keeps the size.
    /// The result cannot be written, because several indices reach the same element.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let row = Tensor::from_vec(vec![1, 2, 3], [1, 3])?;
    /// let rows = row.expand([2, 2, -1])?;
    /// assert_eq!((rows.shape(), rows.strides()), (&[2, 2, 3][..], &[0, 0, 1][..]));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidView`] if there are fewer sizes than dimensions, if a size differs from a
    /// size that is not 1, or for -1 in a new dimension; [`Error::InvalidDescriptor`] for other
    /// negative sizes; [`Error::Overflow`] if the elements cannot be counted. The tensor comes back
    /// inside the error.
    #[doc(alias = "broadcast_to")]
    pub fn expand(self, shape: impl Shape) -> Result<Self, Rejected<Self>> {
        self.viewed(|layout| layout.expanded(shape.sizes()?.as_ref()))
    }

    /// Removes all dimensions of size 1.
    ///
    /// Nothing is copied.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// assert_eq!(Tensor::zeros::<f32>([1, 3, 1])?.squeeze()?.shape(), [3]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// None at present.
    pub fn squeeze(self) -> Result<Self, Rejected<Self>> {
        self.viewed(Layout::squeezed)
    }

    /// Removes one dimension, if its size is 1. Otherwise the tensor stays as it is.
    ///
    /// Nothing is copied. NumPy's `squeeze` refuses a dimension of another size.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// assert_eq!(Tensor::zeros::<f32>([1, 3, 1])?.squeeze_dim(-1)?.shape(), [1, 3]);
    /// assert_eq!(Tensor::zeros::<f32>([1, 3, 1])?.squeeze_dim(1)?.shape(), [1, 3, 1]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`]. The tensor comes back inside the error.
    pub fn squeeze_dim(self, dim: i64) -> Result<Self, Rejected<Self>> {
        self.viewed(|layout| layout.squeezed_at(dim))
    }

    /// Adds a dimension of size 1 before dimension `dim`.
    ///
    /// Nothing is copied. A negative `dim` counts from the end of the result: -1 adds the last
    /// dimension.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// assert_eq!(Tensor::zeros::<f32>([2, 3])?.unsqueeze(0)?.shape(), [1, 2, 3]);
    /// assert_eq!(Tensor::zeros::<f32>([2, 3])?.unsqueeze(-1)?.shape(), [2, 3, 1]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`]. The tensor comes back inside the error.
    #[doc(alias = "expand_dims")]
    pub fn unsqueeze(self, dim: i64) -> Result<Self, Rejected<Self>> {
        self.viewed(|layout| layout.unsqueezed(dim))
    }

    /// Gives the elements another shape, in the same row-major order.
    ///
    /// Nothing is copied: this is PyTorch's `view`, which also fails where a copy would be needed,
    /// and not its `reshape`. One size may be -1: it follows from the others.
    ///
    /// ```
    /// use dlbridge::{Error, MemoryFormat, Remedy, Tensor};
    ///
    /// let rows = Tensor::from_vec(vec![1, 2, 3, 4, 5, 6], [2, 3])?;
    /// let pairs = rows.reshape([-1, 2])?;
    /// assert_eq!(pairs.to_list()?.to_string(), "[[1, 2], [3, 4], [5, 6]]");
    ///
    /// let refused = pairs.transpose(0, 1)?.reshape([6]).unwrap_err(); // not in row-major order
    /// assert_eq!(refused.error().remedy(), Some(Remedy::CloneContiguous));
    /// let copied = refused.into_value().deep_clone_with(MemoryFormat::Contiguous)?.reshape([6])?;
    /// assert_eq!(copied.as_slice::<i32>()?, [1, 3, 5, 2, 4, 6]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidView`] for a shape with another number of elements, for two sizes of -1, for
    /// a -1 that can be any size because there are no elements, and for elements that must be
    /// copied; [`Error::InvalidDescriptor`] for other negative sizes. The tensor comes back inside
    /// the error.
    #[doc(alias = "view")]
    pub fn reshape(self, shape: impl Shape) -> Result<Self, Rejected<Self>> {
        self.viewed(|layout| layout.reshaped(shape.sizes()?.as_ref()))
    }

    /// Gives the tensor this shape and these strides (elements), from another first element on.
    ///
    /// Nothing is copied. `offset` is the distance (elements) from the first element of this tensor
    /// to the first element of the result. PyTorch counts its `storage_offset` from the beginning
    /// of the storage instead. Strides and `offset` may be negative, which PyTorch does not have.
    ///
    /// The result lies between the lowest and the highest element of this tensor, these two
    /// included: elements of the memory that this tensor does not reach are out of bounds. It may
    /// reach the gaps between elements in host memory, but not in the memory of a device.
    ///
    /// ```
    /// use dlbridge::{Error, Tensor};
    ///
    /// let signal = Tensor::from_vec(vec![1, 2, 3, 4, 5], [5])?;
    /// let windows = signal.as_strided([3, 3], [1, 1], 0)?; // the windows overlap
    /// assert_eq!(windows.to_list()?.to_string(), "[[1, 2, 3], [2, 3, 4], [3, 4, 5]]");
    ///
    /// let refused = windows.as_strided([2], [5], 0).unwrap_err(); // elements 0 and 5
    /// assert!(matches!(refused.error(), Error::InvalidView { .. }));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidView`] if the result reaches beyond the elements of this tensor, or if the
    /// tensor has gaps and is not on the host; those of [`Layout::new`];
    /// [`Error::UnsupportedDType`] as for [`slice`](Self::slice). The tensor comes back inside the
    /// error.
    pub fn as_strided(
        self,
        shape: impl Shape,
        strides: impl AsRef<[i64]>,
        offset: i64,
    ) -> Result<Self, Rejected<Self>> {
        self.viewed(|layout| layout.as_strided(shape.sizes()?.as_ref(), strides.as_ref(), offset))
    }

    /// Describes a view of the elements instead of the elements. Storage, access state and stream
    /// stay.
    #[inline]
    fn viewed(
        mut self,
        make: impl FnOnce(&Layout) -> Result<View>,
    ) -> Result<Self, Rejected<Self>> {
        match self.buffer.set_view(make) {
            Ok(()) => Ok(self),
            Err(error) => Err(Rejected::new(self, error)),
        }
    }
}
