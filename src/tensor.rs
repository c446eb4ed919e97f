//! The hub: an owning handle to one strided buffer on one device.

use std::ffi::c_void;
use std::fmt;

use crate::copy::{self, Buffer};
use crate::storage::Storage;
use crate::{
    Access, DType, Descriptor, Device, Element, Error, Layout, List, MemoryFormat, Rejected, Result,
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
/// assert!(tensor.as_slice_mut::<i64>().is_err()); // two handles: nobody writes
/// drop(other);
/// assert_eq!(tensor.into_vec::<i64>()?, [10, 2, 3, 4, 5, 6]); // the Vec it began as
/// # Ok::<(), dlbridge::Error>(())
/// ```
pub struct Tensor {
    /// What this handle is used for. First, because it ends before the memory is released.
    #[cfg(feature = "cuda")]
    pub(crate) used: crate::cuda::Use,
    pub(crate) storage: Storage,
    pub(crate) descriptor: Descriptor,
    /// Whether somebody answers for foreign memory: the caller of the unsafe door it came through.
    pub(crate) trusted: bool,
}

impl Tensor {
    #[inline]
    pub(crate) fn new(storage: Storage, descriptor: Descriptor) -> Self {
        Self {
            #[cfg(feature = "cuda")]
            used: crate::cuda::Use::NONE,
            storage,
            descriptor,
            trusted: true,
        }
    }

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
                Ok(Self::new(Storage::new(data, Access::Exclusive, false), descriptor))
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
        unsafe { Self::copy_of(&source, MemoryFormat::Preserve) }
    }

    /// A new row-major tensor of zeros (`false` for `bool`).
    ///
    /// # Errors
    /// What [`Layout::contiguous`] says of the shape, and [`Error::OutOfMemory`].
    pub fn zeros<T: Element>(shape: impl AsRef<[i64]>) -> Result<Self> {
        Self::zeros_with(Layout::contiguous(shape.as_ref())?, T::DTYPE)
    }

    /// A new tensor of zeros on the host, of this layout and element type. Bytes in gaps between
    /// elements are zeros too. Large memory comes from the system as zeros that cost nothing until they
    /// are touched.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] for types that DLPack does not define, [`Error::InvalidDescriptor`] for
    /// one without a size, [`Error::Overflow`], [`Error::OutOfMemory`].
    pub fn zeros_with(layout: Layout, dtype: DType) -> Result<Self> {
        let (bytes, first) = Descriptor::room(&layout, dtype)?;
        if !dtype.is_known() {
            return Err(Error::UnsupportedDType { dtype, target: "new memory" });
        }
        let buffer = Buffer::zeroed(bytes)?;
        let descriptor = Descriptor::placed(buffer.as_ptr().wrapping_add(first), layout, dtype);
        Ok(Self::new(Storage::new(buffer, Access::Exclusive, true), descriptor))
    }

    /// A deep copy of described memory.
    ///
    /// # Safety
    /// * The elements of `source` are readable, as far as they are on the host.
    pub(crate) unsafe fn copy_of(source: &Descriptor, format: MemoryFormat) -> Result<Self> {
        // SAFETY: the caller's promise.
        let (buffer, layout) = unsafe { copy::clone(source, format) }?;
        let descriptor = source.moved_to(buffer.as_ptr(), layout);
        Ok(Self::new(Storage::new(buffer, Access::Exclusive, true), descriptor))
    }

    /// Wraps memory that someone else describes. Nothing is copied; `owner` is dropped once, on
    /// whichever thread drops the last handle.
    ///
    /// The result is [`Access::Aliased`]: it may be read through safe views, and written only
    /// through `unsafe` functions, until the caller vouches for more with
    /// [`assume_exclusive`](Self::assume_exclusive) or [`assume_read_only`](Self::assume_read_only).
    ///
    /// # Safety
    /// * Every element of `descriptor`, and for host memory every byte between the lowest and the
    ///   highest, is initialised, valid for reads, and for writes if `writable`, until `owner` is
    ///   dropped; nothing else is needed to keep it so.
    /// * No other writer is active, here or elsewhere, while a Rust view of the memory (an
    ///   `ArrayView`, a slice, an [`NdArray`](crate::NdArray)) lives or a call of this crate reads it.
    /// * A buffer of type `bool` holds the bytes 0 and 1 only, as long as such a view lives.
    #[inline]
    pub unsafe fn from_raw_parts(descriptor: Descriptor, writable: bool, owner: impl Send + 'static) -> Self {
        Self::new(Storage::new(owner, Access::Aliased { writable }, false), descriptor)
    }

    /// Wraps a part of this tensor's memory, or all of it, described in another way. Nothing is copied; `owner` keeps
    /// this tensor's memory. As [`from_raw_parts`](Self::from_raw_parts), but memory of a device is used in this
    /// tensor's order, whichever of the two is used.
    ///
    /// # Safety
    /// * As for [`from_raw_parts`](Self::from_raw_parts); the elements of `descriptor` are among this tensor's bytes.
    pub unsafe fn share_as_unchecked(
        &self,
        descriptor: Descriptor,
        writable: bool,
        owner: impl Send + 'static,
    ) -> Self {
        // SAFETY: the caller's promises.
        let view = unsafe { Self::from_raw_parts(descriptor, writable, owner) };
        #[cfg(feature = "cuda")]
        if !self.device().is_host() {
            crate::cuda::join_order(&view, self);
        }
        view
    }

    /// After a copy into this memory that failed so badly that a device may still be at it (then the memory is kept
    /// for ever by another handle): nobody on the host may look at it any more.
    #[cfg(feature = "cuda")]
    pub(crate) fn lose_if_kept(&mut self) {
        if self.device().is_host() && !self.storage.is_unique() {
            self.descriptor = self.descriptor.lost();
        }
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

    /// Bytes of all elements, gaps between them left out.
    pub fn nbytes(&self) -> usize {
        self.descriptor.nbytes()
    }

    /// Where the first element is, and how to reach the others.
    #[inline]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Shape and strides.
    #[inline]
    pub fn layout(&self) -> &Layout {
        self.descriptor.layout()
    }

    /// Element type.
    #[inline]
    pub fn dtype(&self) -> DType {
        self.descriptor.dtype()
    }

    /// Where the memory is.
    #[inline]
    pub fn device(&self) -> Device {
        self.descriptor.device()
    }

    /// What is known about other ways to reach the memory.
    #[inline]
    pub fn access(&self) -> Access {
        self.storage.access()
    }

    /// Whether this is the only handle to the memory at this moment. Another thread may change that
    /// at once if it holds a handle; methods that need the only handle check for themselves.
    pub fn is_unique(&self) -> bool {
        self.storage.looks_unique()
    }

    /// Whether the elements lie one after the other in row-major order.
    pub fn is_contiguous(&self) -> bool {
        self.layout().is_contiguous()
    }

    /// Address of the first element; of no meaning when there are no elements. On another device
    /// than the host it is that device's address. Whoever writes through it answers for doing so
    /// while nobody else reads or writes, and only to memory that may be written.
    #[inline]
    pub fn data_ptr(&self) -> *mut c_void {
        self.descriptor.data_ptr()
    }

    /// What keeps the memory, if it is of this type: what [`from_raw_parts`](Self::from_raw_parts) was
    /// given, for one. `None` says nothing about who does.
    ///
    /// # Safety
    /// * The caller does not reach the memory through the owner: it may have writers.
    pub unsafe fn owner_unchecked<O: Send + Sync + 'static>(&self) -> Option<&O> {
        // SAFETY: a shared reference to something `Sync`; the rest is the caller's promise.
        unsafe { self.storage.peek() }
    }

    /// Another handle to the same memory. Nothing is copied; while there are several handles, none
    /// may write.
    #[must_use]
    #[inline]
    pub fn share(&self) -> Self {
        Self { trusted: self.trusted, ..Self::new(self.storage.share(), self.descriptor.clone()) }
    }

    /// Gives up what is known about the memory, so that code outside this crate may hold and write
    /// it: every later DLPack export says that it may, if we may. Safe code gets no more views of
    /// host memory that nobody vouches for; copies remain possible.
    ///
    /// # Errors
    /// [`Error::NotUnique`] when there is another handle, unless the memory is foreign already. The tensor
    /// comes back inside the error.
    pub fn into_aliased(mut self) -> Result<Self, Rejected<Self>> {
        let writable = match self.access() {
            Access::Exclusive => true,
            Access::ReadOnly => false,
            Access::Aliased { writable } => writable,
        };
        if !self.storage.is_aliased() && !self.storage.set_access(Access::Aliased { writable }) {
            return Err(Rejected::new(self, Error::NotUnique));
        }
        self.trusted = false;
        Ok(self)
    }

    /// Declares that nobody writes the memory any more, here or elsewhere.
    ///
    /// # Errors
    /// [`Error::NotUnique`] when there is another handle. The tensor comes back inside the error.
    ///
    /// # Safety
    /// * The memory is not written from now on until its owner is dropped.
    /// * A buffer of type `bool` holds the bytes 0 and 1 only.
    pub unsafe fn assume_read_only(self) -> Result<Self, Rejected<Self>> {
        self.vouch(Access::ReadOnly)
    }

    /// Declares that only this handle, and what is made from it, reaches the memory.
    ///
    /// # Errors
    /// [`Error::NotUnique`] when there is another handle. The tensor comes back inside the error.
    ///
    /// # Safety
    /// * Nothing but this handle reads or writes the memory from now on until its owner is dropped.
    /// * The memory may be written.
    pub unsafe fn assume_exclusive(self) -> Result<Self, Rejected<Self>> {
        self.vouch(Access::Exclusive)
    }

    fn vouch(mut self, access: Access) -> Result<Self, Rejected<Self>> {
        if !self.storage.set_access(access) {
            return Err(Rejected::new(self, Error::NotUnique));
        }
        self.trusted = true;
        Ok(self)
    }

    /// Refuses safe views of memory that outsiders may write and that nobody vouches for.
    #[inline]
    pub(crate) fn require_trusted(&self) -> Result<()> {
        match self.access() {
            Access::Aliased { .. } if !self.trusted => Err(Error::Aliased),
            _ => Ok(()),
        }
    }

    /// Refuses all but the only handle to memory that nobody else reaches.
    #[inline]
    pub(crate) fn require_exclusive(&mut self) -> Result<()> {
        match self.access() {
            Access::Exclusive if self.storage.is_unique() => Ok(()),
            Access::Exclusive => Err(Error::NotUnique),
            Access::ReadOnly => Err(Error::ReadOnly { remedy: "write to a deep_clone()" }),
            Access::Aliased { .. } => Err(Error::Aliased),
        }
    }

    /// Address of the first `T` for a safe view that reads: all checks but rank and contiguity.
    #[inline]
    pub(crate) fn readable<T: Element>(&self, target: &'static str) -> Result<*mut T> {
        let data = self.descriptor.typed::<T>(target)?;
        self.require_trusted()?;
        // SAFETY: host memory of type `T` (`typed`) with readable elements: the invariant of a tensor.
        unsafe { copy::check_bools::<T>(&self.descriptor) }?;
        Ok(data.as_ptr())
    }

    /// Address of the first `T` for a safe view that writes: all checks but rank and contiguity.
    #[inline]
    pub(crate) fn writable<T: Element>(&mut self, target: &'static str) -> Result<*mut T> {
        let data = self.descriptor.typed::<T>(target)?;
        self.require_exclusive()?;
        if self.layout().overlaps() {
            return Err(self.layout().self_overlap());
        }
        // SAFETY: host memory of type `T` (`typed`) with readable elements: the invariant of a tensor.
        unsafe { copy::check_bools::<T>(&self.descriptor) }?;
        Ok(data.as_ptr())
    }

    /// Makes every byte between the lowest and the highest element 0 or 1, where `T` is `bool`, so
    /// that they may become part of a `Vec<bool>`.
    #[cfg(feature = "torch")]
    pub(crate) fn normalise_bools(&mut self) {
        let bools = self.dtype() == DType::BOOL && self.device().is_host() && !self.is_empty();
        if bools && self.require_exclusive().is_ok() {
            let (start, bytes) = self.descriptor.span();
            // SAFETY: the span of host memory that only this handle reaches; bytes have any value.
            let bytes = unsafe { std::slice::from_raw_parts_mut(start, bytes) };
            bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
        }
    }

    /// Looks at every byte between the lowest and the highest element where `T` is `bool`: those in
    /// the gaps come back to safe code too when the whole container does.
    pub(crate) fn require_bools_in_span<T: Element>(&mut self) -> Result<()> {
        if T::DTYPE != DType::BOOL || self.is_empty() {
            return Ok(());
        }
        self.require_exclusive()?;
        let (start, bytes) = self.descriptor.span();
        // SAFETY: the span of host memory that only this handle reaches; bytes have any value.
        let bytes = unsafe { std::slice::from_raw_parts(start, bytes) };
        match bytes.iter().find(|&&byte| byte > 1) {
            None => Ok(()),
            Some(&value) => Err(Error::InvalidBool { value }),
        }
    }

    /// The elements as a slice, borrowed from this handle. Nothing is copied.
    ///
    /// # Errors
    /// When the memory is not on the host, of another type, misaligned, not
    /// [contiguous](Self::is_contiguous), foreign with nobody to vouch for it, or holds an invalid
    /// bool.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        let data = self.readable::<T>("slice")?;
        if !self.is_contiguous() {
            return Err(self.layout().not_contiguous());
        }
        // SAFETY: `readable` gave an aligned pointer to initialised elements that nobody writes
        // while `self` is borrowed; contiguous, so `len` of them follow each other.
        Ok(unsafe { std::slice::from_raw_parts(data, self.len()) })
    }

    /// The elements as a slice to write to, borrowed from this handle. Nothing is copied.
    ///
    /// # Errors
    /// As for [`as_slice`](Self::as_slice), and when the memory is not [`Access::Exclusive`] or
    /// there is another handle.
    pub fn as_slice_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        let data = self.writable::<T>("slice")?;
        if !self.is_contiguous() {
            return Err(self.layout().not_contiguous());
        }
        // SAFETY: `writable` gave an aligned pointer to initialised elements that only `self`
        // reaches; contiguous, so `len` of them follow each other.
        Ok(unsafe { std::slice::from_raw_parts_mut(data, self.len()) })
    }

    /// The `Vec` that the memory began as. Nothing is copied.
    ///
    /// # Errors
    /// [`Error::NotOriginal`] when it did not begin as a `Vec<T>` (or an `Array`) of just these
    /// elements; [`Error::NotUnique`] when there is another handle, [`Error::Aliased`] or
    /// [`Error::ReadOnly`] by [`Access`]; [`Error::DTypeMismatch`], [`Error::NotOnCpu`],
    /// [`Error::Misaligned`], [`Error::InvalidBool`]. The tensor comes back inside the error; if it
    /// began as an `Array` with gaps, that array is its `Vec` from now on.
    pub fn into_vec<T: Element>(mut self) -> Result<Vec<T>, Rejected<Self>> {
        match self.check_vec::<T>() {
            Ok(()) => {}
            #[cfg(feature = "ndarray")]
            Err(Error::NotOriginal { .. }) => return self.into_vec_of_array(),
            Err(error) => return Err(Rejected::new(self, error)),
        }
        let Self { storage, descriptor, trusted, .. } = self;
        storage.into_owner().map_err(|storage| {
            Rejected::new(Self { trusted, ..Self::new(storage, descriptor) }, Error::NotUnique)
        })
    }

    /// Whether the owner is a `Vec<T>` of just these elements in this order.
    pub(crate) fn check_vec<T: Element>(&mut self) -> Result<()> {
        let data = self.descriptor.typed::<T>("Vec")?.as_ptr();
        if self.storage.owner_is::<Vec<T>>() {
            self.require_exclusive()?;
        }
        let (len, contiguous) = (self.len(), self.is_contiguous());
        match self.storage.owner_mut::<Vec<T>>() {
            Some(vec) if contiguous && vec.len() == len && (len == 0 || vec.as_ptr() == data) => {}
            _ => return Err(Error::NotOriginal { target: "Vec", remedy: "to_vec()" }),
        }
        self.require_bools_in_span::<T>()
    }

    /// Copies the elements into a new `Vec`, in row-major order.
    ///
    /// # Errors
    /// When the memory is not on the host, of another type or holds an invalid bool, and
    /// [`Error::OutOfMemory`]. Layout, alignment and access do not matter.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        // SAFETY: the elements are readable: the invariant of a tensor.
        unsafe { copy::to_vec(&self.descriptor) }
    }

    /// The only element.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when there is not exactly one, and what
    /// [`to_vec`](Self::to_vec) says.
    pub fn item<T: Element>(&self) -> Result<T> {
        let length = || Error::LengthMismatch { shape: self.shape().into(), expected: 1, found: self.len() };
        if self.len() != 1 {
            return Err(length());
        }
        self.to_vec::<T>()?.first().copied().ok_or_else(length)
    }

    /// Copies the elements into nested lists, as Python's `tolist` does.
    ///
    /// # Errors
    /// When the memory is not on the host, its type is none of [`Element`]'s, there are more than 64
    /// dimensions; [`Error::InvalidBool`], [`Error::OutOfMemory`].
    pub fn to_list(&self) -> Result<List> {
        self.descriptor.require_host("list")?;
        fn list_of<T: Element>(tensor: &Tensor) -> Result<List> {
            List::nest(tensor.layout(), tensor.to_vec::<T>()?.into_iter())
        }
        type C32 = num_complex::Complex<f32>;
        type C64 = num_complex::Complex<f64>;
        match self.dtype() {
            DType::BOOL => list_of::<bool>(self),
            DType::U8 => list_of::<u8>(self),
            DType::U16 => list_of::<u16>(self),
            DType::U32 => list_of::<u32>(self),
            DType::U64 => list_of::<u64>(self),
            DType::I8 => list_of::<i8>(self),
            DType::I16 => list_of::<i16>(self),
            DType::I32 => list_of::<i32>(self),
            DType::I64 => list_of::<i64>(self),
            DType::F16 => list_of::<half::f16>(self),
            DType::BF16 => list_of::<half::bf16>(self),
            DType::F32 => list_of::<f32>(self),
            DType::F64 => list_of::<f64>(self),
            DType::C64 => list_of::<C32>(self),
            DType::C128 => list_of::<C64>(self),
            dtype => Err(Error::UnsupportedDType { dtype, target: "a list" }),
        }
    }
}

fn layout_for(len: usize, shape: &[i64]) -> Result<Layout> {
    let layout = Layout::contiguous(shape)?;
    if layout.len() != len {
        return Err(Error::LengthMismatch { shape: shape.into(), expected: layout.len(), found: len });
    }
    Ok(layout)
}

/// Values are shown up to this many elements.
const SHOWN_ELEMENTS: usize = 1000;

impl fmt::Debug for Tensor {
    /// Shows the values where safe code may read them, and shape, type and device always.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tensor(")?;
        if self.len() <= SHOWN_ELEMENTS && self.require_trusted().is_ok() && !self.shape().contains(&0) {
            match self.to_list() {
                Ok(list) => write!(f, "{list}, ")?,
                Err(_) => f.write_str("..., ")?,
            }
        } else {
            f.write_str("..., ")?;
        }
        write!(f, "shape={:?}, dtype={}, device={})", self.shape(), self.dtype(), self.device())
    }
}
