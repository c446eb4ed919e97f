//! The tensor: an owning handle to one strided buffer on one device.
//!
//! Invariants:
//! * The elements are initialised and readable as long as the handle lives: the invariant of
//!   [`SharedBuffer`]. If other code may move the memory ([`MovableOwner`](crate::MovableOwner)),
//!   they are readable after `check_address` succeeded: each function that copies calls it first,
//!   and such memory has no safe views.
//! * Only [`Tensor::from_trusted_buffer`] sets `trusted`. Its callers pass on the guarantee that
//!   the caller of a public `unsafe` function gave.
//!
//! The fields are private to this folder. The layers above (`ndarray`, `dlpark`, `torch`) build
//! tensors and take them apart with the methods below, which keep the access state.

mod access;
mod copies;
mod devices;
mod dlpack;
mod elements;
mod format;
mod movable;
mod owners;
mod queries;
#[cfg(feature = "cuda")]
mod streams;
#[cfg(feature = "cuda")]
mod transfer;
mod views;

pub use access::Access;
pub use dlpack::Imported;
#[cfg(feature = "cuda")]
pub use transfer::Transfer;

use crate::buffer::Buffer;
use crate::cuda::{self, StreamUse};
use crate::shared_buffer::SharedBuffer;
use crate::storage::{Storage, StorageOwner};
use crate::{
    DType, Descriptor, Element, Error, Layout, MemoryFormat, Rejected, Result, Shape, host_copy,
};

/// An owning handle to one strided buffer on one device.
///
/// Every conversion goes through a tensor, and copies only if the name of the method says so. A
/// handle is not `Clone`: [`share`](Self::share) makes another handle to the same memory, and
/// [`deep_clone`](Self::deep_clone) copies the elements. The memory is released when the last
/// handle to it is dropped. `NdArray`, DLPack structs and libtorch tensors that were made from a
/// handle count as handles.
///
/// ```
/// use dlbridge::Tensor;
///
/// let mut tensor = Tensor::from_vec(vec![1_i64, 2, 3, 4, 5, 6], [2, 3])?;
/// tensor.as_slice_mut::<i64>()?[0] = 10;
/// let other = tensor.share();
/// assert_eq!(other.to_list()?.to_string(), "[[10, 2, 3], [4, 5, 6]]");
/// assert!(tensor.as_slice_mut::<i64>().is_err()); // there are two handles: neither may write
/// drop(other);
/// assert_eq!(tensor.into_vec::<i64>()?, [10, 2, 3, 4, 5, 6]); // the Vec that was moved in
/// # Ok::<(), dlbridge::Error>(())
/// ```
pub struct Tensor {
    /// The stream that this handle is used on. It is the first field, because the use must end
    /// before the memory is released.
    stream_use: StreamUse,
    buffer: SharedBuffer,
    /// True if the caller of an `unsafe` function guaranteed that no other code writes aliased
    /// memory while views exist. It has no meaning for other memory.
    trusted: bool,
}

/// Methods for the layers above.
impl Tensor {
    /// Makes a handle from a buffer. If the memory is aliased, it is not trusted.
    #[inline]
    pub(crate) fn from_buffer(buffer: SharedBuffer) -> Self {
        Self { stream_use: StreamUse::NONE, buffer, trusted: false }
    }

    /// Makes a handle from a buffer that safe code may view even if the memory is aliased.
    ///
    /// # Safety
    /// * No code outside this handle and its shares writes a byte from the lowest to the highest
    ///   element while a Rust view of the memory lives or a call of this crate reads it; the bytes
    ///   of a bool buffer are 0 and 1 as long as such a view lives.
    #[inline]
    pub(crate) unsafe fn from_trusted_buffer(buffer: SharedBuffer) -> Self {
        Self { stream_use: StreamUse::NONE, buffer, trusted: true }
    }

    #[cfg(feature = "torch")]
    #[inline]
    pub(crate) fn buffer(&self) -> &SharedBuffer {
        &self.buffer
    }

    /// Returns the owner, if this is the only handle and the owner has the type `O`.
    #[inline]
    pub(crate) fn owner_mut<O: StorageOwner>(&mut self) -> Option<&mut O> {
        self.buffer.storage_mut().owner_mut()
    }

    /// Returns true if this is the only handle. Then no other can be made while the borrow lasts.
    #[cfg(feature = "torch")]
    #[inline]
    pub(crate) fn is_only_handle(&mut self) -> bool {
        self.buffer.storage_mut().is_unique()
    }

    /// Gives the owner, if this is the only handle and the owner has the type `O`, and otherwise
    /// the tensor as it was.
    #[inline]
    pub(crate) fn into_storage_owner<O: StorageOwner>(self) -> Result<O, Self> {
        let Self { stream_use, buffer, trusted } = self;
        match buffer.into_owner() {
            Ok(owner) => Ok(owner),
            Err(buffer) => Err(Self { stream_use, buffer, trusted }),
        }
    }

    /// Gives the storage without the description of its elements.
    #[inline]
    pub(crate) fn into_storage(self) -> Storage {
        self.buffer.into_storage()
    }

    /// Converts the buffer. If that fails, the tensor comes back as it was, with `trusted` and with
    /// the stream that the handle is used on.
    ///
    /// # Safety
    /// * If `replace` fails, it gives back the buffer that it got.
    #[cfg(feature = "torch")]
    #[inline]
    pub(crate) unsafe fn replace_buffer<R, E>(
        self,
        replace: impl FnOnce(SharedBuffer) -> Result<R, (SharedBuffer, E)>,
    ) -> Result<R, (Self, E)> {
        let Self { stream_use, buffer, trusted } = self;
        let restore = |(buffer, error)| (Self { stream_use, buffer, trusted }, error);
        replace(buffer).map_err(restore)
    }

    /// Extends the handle's use of its stream to the release of the memory.
    #[cfg(feature = "torch")]
    #[inline]
    pub(crate) fn keep_stream_use(&mut self) {
        std::mem::replace(&mut self.stream_use, StreamUse::NONE).keep_until_release();
    }
}

impl Tensor {
    /// Moves a `Vec` into a row-major tensor of this shape. Nothing is copied.
    ///
    /// [`into_vec`](Self::into_vec) gives the `Vec` back.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1_u8, 2, 3, 4, 5, 6], [2, 3])?;
    /// assert_eq!((tensor.shape(), tensor.strides()), (&[2, 3][..], &[3, 1][..]));
    /// let rejected = Tensor::from_vec(vec![1_u8, 2, 3, 4, 5], [2, 3]).unwrap_err();
    /// assert_eq!(rejected.into_value(), [1, 2, 3, 4, 5]); // the Vec is not lost
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if the shape has another number of elements, and those of
    /// [`Layout::contiguous`]. The `Vec` comes back inside the error.
    pub fn from_vec<T: Element>(
        mut data: Vec<T>,
        shape: impl Shape,
    ) -> Result<Self, Rejected<Vec<T>>> {
        match layout_for(data.len(), &shape) {
            Ok(layout) => {
                let descriptor = Descriptor::from_checked(data.as_mut_ptr(), layout);
                // SAFETY: the `Vec` keeps its initialised elements, and the layout reaches exactly
                // these. The storage owns the `Vec`, so nothing else reaches the memory.
                Ok(Self::from_buffer(unsafe { SharedBuffer::exclusive(data, descriptor) }))
            }
            Err(error) => Err(Rejected::new(data, error)),
        }
    }

    /// Copies a slice into a new row-major tensor of this shape.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let samples = [0.5_f32, 0.25, 0.125];
    /// let tensor = Tensor::from_slice(&samples, [1, 3])?; // `samples` stays where it is
    /// assert_ne!(tensor.data_ptr().cast_const().cast(), samples.as_ptr());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`from_vec`](Self::from_vec), and [`Error::OutOfMemory`].
    pub fn from_slice<T: Element>(data: &[T], shape: impl Shape) -> Result<Self> {
        let layout = layout_for(data.len(), &shape)?;
        let source = Descriptor::from_checked(data.as_ptr().cast_mut(), layout);
        // SAFETY: `deep_copy` requires readable elements. The layout reaches exactly the elements
        // of the slice, which is borrowed during the call.
        unsafe { host_copy::deep_copy(&source, MemoryFormat::Preserve) }.map(Self::from_buffer)
    }

    /// Makes a row-major tensor of zeros (`false` for `bool`) on the host.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let mut output = Tensor::zeros::<f32>([2, 3])?; // new memory, which only `output` reaches
    /// output.as_slice_mut::<f32>()?[0] = 1.0;
    /// assert_eq!(output.to_list()?.to_string(), "[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]");
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Layout::contiguous`], and [`Error::OutOfMemory`].
    pub fn zeros<T: Element>(shape: impl Shape) -> Result<Self> {
        Self::zeros_with(Layout::contiguous(shape)?, T::DTYPE)
    }

    /// Makes a tensor of zeros on the host with this layout and this element type.
    ///
    /// The bytes in gaps between elements are zeros, too. The system fills large memory with zeros
    /// when it is first used, so this method does not write it.
    ///
    /// ```
    /// use dlbridge::{DType, Layout, Tensor};
    ///
    /// let columns = Layout::new(&[2, 3], &[1, 2])?; // column-major
    /// let tensor = Tensor::zeros_with(columns, DType::scalar(10, 8))?; // float8_e4m3fn
    /// assert_eq!((tensor.strides(), tensor.nbytes()), (&[1, 2][..], 6));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] for an element type that DLPack does not define,
    /// [`Error::InvalidDescriptor`] for one without a size, [`Error::Overflow`],
    /// [`Error::OutOfMemory`].
    pub fn zeros_with(layout: Layout, dtype: DType) -> Result<Self> {
        let (bytes, first) = Descriptor::allocation_size(&layout, dtype)?;
        if !dtype.is_known() {
            return Err(Error::UnsupportedDType { dtype, target: "new tensors" });
        }
        let memory = Buffer::zeroed(bytes)?;
        let data = memory.as_ptr().wrapping_add(first);
        let descriptor = Descriptor::in_new_allocation(data, layout, dtype);
        // SAFETY: the allocation is new and zeroed, and `allocation_size` gave the number of bytes
        // that the layout needs. Only `memory` reaches it.
        Ok(Self::from_buffer(unsafe { SharedBuffer::copied(memory, descriptor) }))
    }

    /// Makes a tensor of memory that the caller describes. Nothing is copied.
    ///
    /// The thread that drops the last handle drops `owner`, once. If `owner` implements
    /// `AsRef<[T]>` or `AsMut<[T]>`, [`from_owner`](Self::from_owner) and
    /// [`from_owner_mut`](Self::from_owner_mut) need no `unsafe`.
    ///
    /// The result is [`Access::Aliased`] and trusted: safe views may read it, and only `unsafe`
    /// functions write it. [`assume_exclusive`](Self::assume_exclusive) and
    /// [`assume_read_only`](Self::assume_read_only) change the state on a further guarantee of the
    /// caller.
    ///
    /// ```
    /// use dlbridge::{DType, Descriptor, Device, Layout, Tensor};
    /// use std::sync::Arc;
    ///
    /// let weights: Arc<[f32]> = vec![1.0, 2.0, 3.0, 4.0].into();
    /// let data = weights.as_ptr().cast_mut().cast();
    /// let layout = Layout::contiguous([2, 2])?;
    /// let described = Descriptor::new(data, layout, DType::F32, Device::CPU)?;
    /// // SAFETY: `owner`, a clone of the `Arc`, keeps the four initialised numbers at `data`,
    /// // moving it does not move them, and an `Arc<[f32]>` that was cloned is never written.
    /// let tensor = unsafe { Tensor::from_raw_parts(described, false, Arc::clone(&weights)) };
    /// assert_eq!(tensor.as_slice::<f32>()?, &weights[..]); // the same memory
    /// drop(tensor); // drops the clone of the `Arc`
    /// assert_eq!(Arc::strong_count(&weights), 1);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Safety
    /// *The bytes of the tensor* are those of the elements of `descriptor` and, for host memory,
    /// every byte from the lowest to the highest element, the bytes between the elements included.
    ///
    /// * Until `owner` is dropped, all bytes of the tensor are initialised and valid for reads, and
    ///   for writes if `writable`. `owner` alone keeps them so.
    /// * Moving `owner` leaves the address of `descriptor` valid. It does for a `Vec`, an `Arc` and
    ///   raw pointers. It does not for a `Box` or a `&mut` of the memory: by Rust's aliasing rules,
    ///   each move of them invalidates the pointers that were made before.
    /// * No other code writes a byte of the tensor while a Rust view of the memory (an `ArrayView`,
    ///   a slice, an [`NdArray`](crate::NdArray)) lives or a call of this crate reads it.
    /// * The bytes of a tensor of type `bool` are 0 and 1 as long as such a view lives.
    #[inline]
    pub unsafe fn from_raw_parts(
        descriptor: Descriptor,
        writable: bool,
        owner: impl Send + 'static,
    ) -> Self {
        // SAFETY: the caller guarantees that `owner` keeps the bytes of the tensor initialised and
        // valid for reads, and for writes if `writable`.
        let buffer = unsafe { SharedBuffer::aliased(owner, descriptor, writable) };
        // SAFETY: the caller guarantees that no other code writes while views exist.
        unsafe { Self::from_trusted_buffer(buffer) }
    }

    /// Makes a tensor of this tensor's memory with another description. Nothing is copied.
    ///
    /// `descriptor` describes all of the memory or a part of it, and `owner` keeps the memory: for
    /// example, another handle to it. This method works as
    /// [`from_raw_parts`](Self::from_raw_parts), but on device memory this crate orders its work on
    /// the two tensors as if they were one.
    ///
    /// ```
    /// use dlbridge::{Descriptor, Layout, Tensor};
    ///
    /// let rows = Tensor::from_vec(vec![1_u8, 2, 3, 4, 5, 6], [2, 3])?;
    /// let transposed = Layout::new(&[3, 2], &[1, 3])?;
    /// let transposed = Descriptor::new(rows.data_ptr(), transposed, rows.dtype(), rows.device())?;
    /// assert!(rows.descriptor().contains(&transposed));
    /// // SAFETY: the part lies within the memory of `rows`, another handle to which is the owner;
    /// // while there are two handles, none of them writes.
    /// let columns = unsafe { rows.share_as_unchecked(transposed, false, rows.share()) };
    /// assert_eq!(columns.to_vec::<u8>()?, [1, 4, 2, 5, 3, 6]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Safety
    /// * As for [`from_raw_parts`](Self::from_raw_parts); this tensor's descriptor
    ///   [contains](Descriptor::contains) `descriptor`.
    pub unsafe fn share_as_unchecked(
        &self,
        descriptor: Descriptor,
        writable: bool,
        owner: impl Send + 'static,
    ) -> Self {
        // SAFETY: the caller guarantees all that `from_raw_parts` requires.
        let view = unsafe { Self::from_raw_parts(descriptor, writable, owner) };
        if !self.device().is_host() {
            cuda::share_tracker(&view.buffer, &self.buffer);
        }
        view
    }

    /// Makes another handle to the same memory. Nothing is copied.
    ///
    /// While there are several handles, none of them may write.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let other = tensor.share();
    /// assert_eq!(other.data_ptr(), tensor.data_ptr());
    /// let sum: f32 = std::thread::scope(|threads| {
    ///     let reader = threads.spawn(move || other.as_slice::<f32>().map(|all| all.iter().sum()));
    ///     reader.join().expect("no panic")
    /// })?;
    /// assert_eq!(sum, 3.0);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[must_use]
    #[inline]
    pub fn share(&self) -> Self {
        Self { stream_use: StreamUse::NONE, buffer: self.buffer.share(), trusted: self.trusted }
    }
}

fn layout_for(len: usize, shape: &impl Shape) -> Result<Layout> {
    let layout = Layout::contiguous(shape)?;
    if layout.len() != len {
        let expected = layout.len();
        let shape = layout.shape().into();
        return Err(Error::LengthMismatch { shape, expected, found: len });
    }
    Ok(layout)
}
