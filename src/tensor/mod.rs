//! The tensor: an owning handle to one strided buffer on one device.
//!
//! Invariants:
//! * The elements are as [`SharedBuffer`] says: initialised and readable as long as the handle
//!   lives.
//! * `trusted` is set by [`Tensor::from_trusted_buffer`] only, whose callers pass on the guarantee
//!   that the caller of a public `unsafe` function gave.
//!
//! The fields are private to this folder. The layers above (`ndarray`, `torch`) build and take
//! apart tensors with the methods below, which keep what is known about the memory.

mod access;
mod copies;
mod devices;
mod dlpack;
mod elements;
mod format;
#[cfg(feature = "cuda")]
mod streams;
#[cfg(feature = "cuda")]
mod transfer;

use std::ffi::c_void;

pub use access::Access;
pub use dlpack::Imported;
#[cfg(feature = "cuda")]
pub use transfer::Transfer;

use crate::buffer::Buffer;
use crate::cuda::{self, StreamUse};
use crate::shared_buffer::SharedBuffer;
use crate::storage::{Storage, StorageOwner};
use crate::{
    DType, Descriptor, Device, Element, Error, Layout, MemoryFormat, Rejected, Result, host_copy,
};

/// An owning handle to one strided buffer on one device.
///
/// Every conversion goes through a tensor, and none copies unless its name says so. A handle is not
/// `Clone`: [`share`](Self::share) makes another handle to the same memory,
/// [`deep_clone`](Self::deep_clone) copies the data. The memory is released when the last handle,
/// and the last object made from one, is gone.
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
    /// The stream that this handle is used on. First, because the use ends before the memory is
    /// released.
    stream_use: StreamUse,
    buffer: SharedBuffer,
    /// Whether the caller of an `unsafe` function guaranteed that no one writes aliased memory
    /// while views exist. Of no meaning for other memory.
    trusted: bool,
}

/// For the layers above.
impl Tensor {
    /// A handle for which no one guarantees more than the buffer's state says.
    #[inline]
    pub(crate) fn from_buffer(buffer: SharedBuffer) -> Self {
        Self { stream_use: StreamUse::NONE, buffer, trusted: false }
    }

    /// A handle whose memory safe code may view even if it is aliased.
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

    /// The owner, if this is the only handle and the owner is of type `O`.
    #[inline]
    pub(crate) fn owner_mut<O: StorageOwner>(&mut self) -> Option<&mut O> {
        self.buffer.storage_mut().owner_mut()
    }

    /// Whether this is the only handle; then no other can be made while the borrow lasts.
    #[cfg(feature = "torch")]
    #[inline]
    pub(crate) fn is_only_handle(&mut self) -> bool {
        self.buffer.storage_mut().is_unique()
    }

    /// The owner itself, if this is the only handle and the owner is of type `O`; else the tensor
    /// as it was.
    #[cfg(feature = "ndarray")]
    #[inline]
    pub(crate) fn into_owner<O: StorageOwner>(self) -> Result<O, Self> {
        let Self { stream_use, buffer, trusted } = self;
        match buffer.into_owner() {
            Ok(owner) => Ok(owner),
            Err(buffer) => Err(Self { stream_use, buffer, trusted }),
        }
    }

    /// The storage alone; what is known about elements in it is dropped.
    #[inline]
    pub(crate) fn into_storage(self) -> Storage {
        self.buffer.into_storage()
    }

    /// Turns the buffer into something else. If that fails, the tensor is as it was: what is known
    /// about the memory, and the stream that the handle is used on, stay with it.
    ///
    /// # Safety
    /// * On failure `replace` gives back the buffer that it got.
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

    /// Makes the handle's use of its stream last as long as the memory does.
    #[cfg(feature = "torch")]
    #[inline]
    pub(crate) fn keep_stream_use(&mut self) {
        std::mem::replace(&mut self.stream_use, StreamUse::NONE).keep_until_release();
    }
}

impl Tensor {
    /// Moves a `Vec` in and sees it as a row-major tensor of this shape. Nothing is copied;
    /// [`into_vec`](Self::into_vec) gives the `Vec` back.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when the shape has another number of elements, or what
    /// [`Layout::contiguous`] says of the shape. The `Vec` comes back inside the error.
    pub fn from_vec<T: Element>(
        mut data: Vec<T>,
        shape: impl AsRef<[i64]>,
    ) -> Result<Self, Rejected<Vec<T>>> {
        match layout_for(data.len(), shape.as_ref()) {
            Ok(layout) => {
                let descriptor = Descriptor::from_checked(data.as_mut_ptr(), layout);
                // SAFETY: the `Vec` keeps its elements, all of which the layout reaches, and is not
                // used except through the storage.
                Ok(Self::from_buffer(unsafe { SharedBuffer::exclusive(data, descriptor) }))
            }
            Err(error) => Err(Rejected::new(data, error)),
        }
    }

    /// Copies a slice into a new row-major tensor of this shape.
    ///
    /// # Errors
    /// As for [`from_vec`](Self::from_vec), and [`Error::OutOfMemory`].
    pub fn from_slice<T: Element>(data: &[T], shape: impl AsRef<[i64]>) -> Result<Self> {
        let layout = layout_for(data.len(), shape.as_ref())?;
        let source = Descriptor::from_checked(data.as_ptr().cast_mut(), layout);
        // SAFETY: the elements of the slice are readable.
        unsafe { host_copy::deep_copy(&source, MemoryFormat::Preserve) }.map(Self::from_buffer)
    }

    /// A new row-major tensor of zeros (`false` for `bool`).
    ///
    /// # Errors
    /// What [`Layout::contiguous`] says of the shape, and [`Error::OutOfMemory`].
    pub fn zeros<T: Element>(shape: impl AsRef<[i64]>) -> Result<Self> {
        Self::zeros_with(Layout::contiguous(shape.as_ref())?, T::DTYPE)
    }

    /// A new tensor of zeros on the host, of this layout and element type. Bytes in gaps between
    /// elements are zeros too. Large memory comes from the system as zeros that cost nothing until
    /// they are touched.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] for types that DLPack does not define,
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
        // SAFETY: the allocation is new, zeroed, and has as many bytes as the layout needs.
        Ok(Self::from_buffer(unsafe { SharedBuffer::copied(memory, descriptor) }))
    }

    /// Wraps memory that the caller describes. Nothing is copied; `owner` is dropped once, on the
    /// thread that drops the last handle.
    ///
    /// The result is [`Access::Aliased`] and trusted: it may be read through safe views, and
    /// written only through `unsafe` functions, until the caller guarantees more with
    /// [`assume_exclusive`](Self::assume_exclusive) or
    /// [`assume_read_only`](Self::assume_read_only).
    ///
    /// # Safety
    /// *The bytes of the tensor* are those of the elements of `descriptor` and, for host memory,
    /// every byte from the lowest to the highest element, the bytes between the elements included.
    ///
    /// * Until `owner` is dropped, all bytes of the tensor are initialised and valid for reads, and
    ///   for writes if `writable`; nothing else is needed to keep them so.
    /// * Moving `owner` leaves the address of `descriptor` valid. It does for a `Vec`, an `Arc` and
    ///   raw pointers; a `Box` or a `&mut` of the memory is an exclusive claim each time it is
    ///   moved, which ends the use of pointers made before.
    /// * No other code writes a byte of the tensor while a Rust view of the memory (an `ArrayView`,
    ///   a slice, an [`NdArray`](crate::NdArray)) lives or a call of this crate reads it.
    /// * The bytes of a tensor of type `bool` are 0 and 1 as long as such a view lives.
    #[inline]
    pub unsafe fn from_raw_parts(
        descriptor: Descriptor,
        writable: bool,
        owner: impl Send + 'static,
    ) -> Self {
        // SAFETY: the caller guarantees that `owner` keeps the elements.
        let buffer = unsafe { SharedBuffer::aliased(owner, descriptor, writable) };
        // SAFETY: the caller guarantees that no one writes while views exist.
        unsafe { Self::from_trusted_buffer(buffer) }
    }

    /// Wraps a part of this tensor's memory, or all of it, described in another way. Nothing is
    /// copied; `owner` keeps this tensor's memory. As [`from_raw_parts`](Self::from_raw_parts), but
    /// work of this crate on device memory keeps one order of streams for both tensors.
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

    /// Sizes of the dimensions, in elements.
    #[inline]
    pub fn shape(&self) -> &[i64] {
        self.layout().shape()
    }

    /// Steps between neighbours in each dimension, in elements; possibly negative or zero.
    #[inline]
    pub fn strides(&self) -> &[i64] {
        self.layout().strides()
    }

    /// Number of dimensions.
    #[inline]
    pub fn ndim(&self) -> usize {
        self.layout().ndim()
    }

    /// Number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.layout().len()
    }

    /// Whether there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.layout().is_empty()
    }

    /// Bytes of all elements, without the gaps between them.
    pub fn nbytes(&self) -> usize {
        self.descriptor().nbytes()
    }

    /// Address of the first element, layout, element type and device.
    #[inline]
    pub fn descriptor(&self) -> &Descriptor {
        self.buffer.descriptor()
    }

    /// Shape and strides.
    #[inline]
    pub fn layout(&self) -> &Layout {
        self.buffer.layout()
    }

    /// Element type.
    #[inline]
    pub fn dtype(&self) -> DType {
        self.descriptor().dtype()
    }

    /// The device that the memory is on.
    #[inline]
    pub fn device(&self) -> Device {
        self.descriptor().device()
    }

    /// Whether this is the only handle to the memory at this moment. Another thread that holds a
    /// handle may change that at once; methods that need the only handle check for themselves.
    pub fn is_unique(&self) -> bool {
        self.buffer.storage().looks_unique()
    }

    /// Whether the elements lie one after the other in row-major order.
    pub fn is_contiguous(&self) -> bool {
        self.layout().is_contiguous()
    }

    /// Address of the first element; of no meaning when there are no elements (it may be NULL or
    /// misaligned). For memory that is not on the host it is an address of that device, or the
    /// handle of a buffer ([`Descriptor::byte_offset`]). Code that writes through it is responsible
    /// for doing so only while no other code reads or writes, and only to memory that may be
    /// written.
    #[inline]
    pub fn data_ptr(&self) -> *mut c_void {
        self.descriptor().data_ptr()
    }

    /// The owner of the memory, if it has type `O`: the one that was passed to
    /// [`from_raw_parts`](Self::from_raw_parts), for example. Otherwise `None`.
    ///
    /// # Safety
    /// * The caller neither reads nor writes a byte of the tensor's memory through the owner: the
    ///   memory may have writers, and Rust views.
    pub unsafe fn owner_unchecked<O: Send + Sync + 'static>(&self) -> Option<&O> {
        // SAFETY: `O` is `Sync`, so a shared reference to it may be used on any thread; the caller
        // does not reach the memory through it.
        unsafe { self.buffer.storage().owner_ref_unchecked() }
    }

    /// Another handle to the same memory. Nothing is copied; while there are several handles, none
    /// may write.
    #[must_use]
    #[inline]
    pub fn share(&self) -> Self {
        Self { stream_use: StreamUse::NONE, buffer: self.buffer.share(), trusted: self.trusted }
    }
}

fn layout_for(len: usize, shape: &[i64]) -> Result<Layout> {
    let layout = Layout::contiguous(shape)?;
    if layout.len() != len {
        let expected = layout.len();
        return Err(Error::LengthMismatch { shape: shape.into(), expected, found: len });
    }
    Ok(layout)
}
