//! libtorch: tensors in and out, without copies.
//!
//! Invariants:
//! * memory of ours enters libtorch through [`blob::from_storage`], whose context is a reference to its
//!   [`Storage`]; memory that comes back with that context is unwrapped, so hops do not nest;
//! * memory becomes [`Access::Exclusive`] only after libtorch's own counts, and the deleter of the
//!   memory, prove that nobody else reaches it;
//! * nothing goes to libtorch that it would abort on, and nothing is read of a tensor before it was
//!   found to be a plain strided buffer.

mod blob;
mod export;
mod kind;
mod loan;

/// What `shim.h` declares.
#[allow(nonstandard_style, dead_code, unreachable_pub, clippy::all)]
#[rustfmt::skip]
mod bindings;

use std::ffi::{CStr, c_char, c_void};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use ::ndarray::{Array, ArrayView, ArrayViewMut, Dimension};

use crate::ffi::DLDataType;
use crate::ndarray::{NdArray, row_major, view, view_mut};
use crate::storage::Storage;
use crate::{
    Access, DType, Descriptor, Device, Element, Error, Exported, Layout, List, Rejected, Result, Tensor, copy,
};
use bindings::*;
pub(crate) use blob::{copy_of, from_array};
pub(crate) use loan::lend;

/// Conversions of libtorch tensors.
///
/// `into_` and `as_` methods want a tensor that is a plain strided buffer and owns its memory alone:
/// no other tensor, view, lazy clone, autograd graph or file shares it. `to_` methods copy, and take
/// tensors that share their memory, require grad, are conjugated, negated or lazy clones as well.
/// Every method may give [`Error::Libtorch`] with libtorch's own words.
pub trait TorchExt: Sized {
    /// Moves the tensor. Nothing is copied.
    ///
    /// Memory that came from this crate is unwrapped to what it was. A CUDA tensor of libtorch's becomes
    /// [`Access::Aliased`]: it can be handed back and copied between devices. It counts as written on the legacy
    /// default stream, which is libtorch's; of one that is written on another, call `wait_stream`.
    ///
    /// # Errors
    /// [`Error::TorchNotExclusive`] when someone else reaches the memory; [`Error::NotPlainTensor`], or
    /// [`Error::InvalidDescriptor`] when it has elements but no memory, when the tensor is more than a plain
    /// strided buffer. The tensor comes back inside the error.
    fn into_tensor(self) -> Result<Tensor, Rejected<Self>>;

    /// Moves the tensor into an array that owns it: Python's `t.numpy()`. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::TorchExt;
    /// use ndarray::{Ix2, array};
    ///
    /// let tensor = tch::Tensor::from_slice2(&[[1.0_f32, 2.0], [3.0, 4.0]]);
    /// let transposed = tensor.tr(); // shares the memory
    /// let refused = transposed.into_ndarray::<f32, Ix2>().unwrap_err();
    /// drop(tensor);
    /// let matrix = refused.into_value().into_ndarray::<f32, Ix2>()?;
    /// assert_eq!(*matrix, array![[1.0, 3.0], [2.0, 4.0]]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`into_tensor`](Self::into_tensor), and [`Error::NotOnCpu`] for memory on another
    /// device, [`Error::DTypeMismatch`], [`Error::RankMismatch`], [`Error::Misaligned`],
    /// [`Error::InvalidBool`], [`Error::Overflow`] for empty shapes that ndarray cannot count, and
    /// [`Error::Aliased`] for memory that came in through an unsafe door. The tensor comes back inside
    /// the error.
    fn into_ndarray<T: Element, D: Dimension>(self) -> Result<NdArray<T, D>, Rejected<Self>>;

    /// Sees the tensor as an array, to read and write, for as long as it is borrowed. Nothing is
    /// copied.
    ///
    /// This is how memory is shared with libtorch in safe code: write through the view, let it go,
    /// and libtorch sees what was written. (There is no view from `&self`, because a tensor can be
    /// cloned through `&self` and written on another thread.)
    ///
    /// ```
    /// use dlbridge::TorchExt;
    /// use ndarray::Ix1;
    ///
    /// let mut tensor = tch::Tensor::zeros([3], tch::kind::FLOAT_CPU);
    /// tensor.as_ndarray_mut::<f32, Ix1>()?[1] = 5.0;
    /// assert_eq!(tensor.double_value(&[1]), 5.0);
    /// let _ = tensor.fill_(7.0);
    /// assert_eq!(tensor.as_ndarray_mut::<f32, Ix1>()?[2], 7.0);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`into_ndarray`](Self::into_ndarray), and [`Error::SelfOverlap`]; [`Error::NotUnique`] or
    /// [`Error::ReadOnly`] for memory of ours that a handle holds besides libtorch.
    fn as_ndarray_mut<T: Element, D: Dimension>(&mut self) -> Result<ArrayViewMut<'_, T, D>>;

    /// Copies the tensor, in the order of its strides. Gradients are left behind; conjugation and
    /// negation are carried out.
    ///
    /// # Errors
    /// [`Error::NotPlainTensor`] when the copy is no plain strided buffer either (sparse, nested,
    /// quantized, meta); [`Error::Libtorch`].
    fn to_tensor(&self) -> Result<Tensor>;

    /// Copies the elements into a new row-major `Array`: Python's `t.numpy(force=True)` where it
    /// copies.
    ///
    /// # Errors
    /// As for [`to_tensor`](Self::to_tensor), and [`Error::NotOnCpu`], [`Error::DTypeMismatch`],
    /// [`Error::RankMismatch`], [`Error::InvalidBool`].
    fn to_ndarray<T: Element, D: Dimension>(&self) -> Result<Array<T, D>>;

    /// Copies the elements into nested lists: Python's `t.tolist()`.
    ///
    /// # Errors
    /// As for [`to_tensor`](Self::to_tensor), and [`Error::NotOnCpu`], more than 64 dimensions.
    fn to_list(&self) -> Result<List>;

    /// Another owner of the same memory, as a DLPack struct. Nothing is copied.
    ///
    /// The struct may be written, as libtorch's own exports may: whoever dereferences it sees to it
    /// that nobody else is at work on the memory meanwhile. The first export puts the memory under
    /// the care of this crate, so that libtorch cannot free it while a struct is in use: it refuses
    /// lazy clones from then on, and resizing detaches the tensor from the struct. The first export
    /// therefore wants the tensor to own its memory alone; later ones do not. When the last struct is
    /// gone, [`into_ndarray`](Self::into_ndarray) and the like work again.
    ///
    /// # Errors
    /// As for [`into_tensor`](Self::into_tensor), and [`Error::NotOnCpu`]; [`Error::NotUnique`] or
    /// [`Error::ReadOnly`] for memory of ours that a handle holds besides libtorch.
    fn share_dlpack(&self) -> Result<Exported>;

    /// Sees the tensor as an array without proof that nobody writes it.
    ///
    /// # Errors
    /// As for [`into_ndarray`](Self::into_ndarray), but for [`Error::TorchNotExclusive`].
    ///
    /// # Safety
    /// * While the call runs and the view lives nobody writes the tensor's memory, resizes or
    ///   replaces it.
    unsafe fn as_ndarray_unchecked<T: Element, D: Dimension>(&self) -> Result<ArrayView<'_, T, D>>;

    /// Moves the tensor without proof that nobody else reaches its memory: the result is
    /// [`Access::Aliased`], writable. Nothing is copied.
    ///
    /// # Errors
    /// [`Error::NotPlainTensor`] or [`Error::InvalidDescriptor`] when the tensor is more than a plain strided
    /// buffer. The tensor comes back inside the error.
    ///
    /// # Safety
    /// * Until the result's owner is dropped nobody resizes or replaces the memory.
    /// * Nobody writes it while a Rust view of it lives or a call of this crate reads it, and a bool
    ///   buffer holds the bytes 0 and 1 only.
    unsafe fn into_tensor_unchecked(self) -> Result<Tensor, Rejected<Self>>;
}

/// What the borrow checker keeps apart.
///
/// ```compile_fail,E0502
/// use dlbridge::TorchExt;
/// let mut tensor = tch::Tensor::zeros([3], tch::kind::FLOAT_CPU);
/// let view = tensor.as_ndarray_mut::<f32, ndarray::Ix1>().unwrap();
/// let clone = tensor.shallow_clone(); // beside a view that writes
/// drop((view, clone));
/// ```
///
/// ```compile_fail,E0505
/// use dlbridge::TorchExt;
/// let mut tensor = tch::Tensor::zeros([3], tch::kind::FLOAT_CPU);
/// let view = tensor.as_ndarray_mut::<f32, ndarray::Ix1>().unwrap();
/// drop(tensor);
/// println!("{view}"); // outlives the tensor
/// ```
///
/// ```compile_fail
/// use dlbridge::ArrayExt;
/// let mut array = ndarray::array![1.0_f32];
/// let escaped = array.lend_torch(|tensor| tensor).unwrap(); // the loan itself
/// drop(escaped);
/// ```
#[cfg(doctest)]
struct Kept;

/// A libtorch tensor as the owner of its memory.
struct TorchOwner(NonNull<dlb_torch_tensor>);

// SAFETY: libtorch's tensors may be used and freed on any thread.
unsafe impl Send for TorchOwner {}

impl TorchOwner {
    #[inline]
    fn new(tensor: tch::Tensor) -> Self {
        let mut tensor = ManuallyDrop::new(tensor);
        match NonNull::new(tensor.as_mut_ptr().cast()) {
            Some(handle) => Self(handle),
            None => unreachable!("a tensor of tch's has an address"),
        }
    }

    fn into_tensor(self) -> tch::Tensor {
        let handle = ManuallyDrop::new(self).0;
        // SAFETY: it came from a tensor of tch's, which is not used otherwise any more.
        unsafe { tch::Tensor::from_ptr(handle.as_ptr().cast()) }
    }
}

impl Drop for TorchOwner {
    fn drop(&mut self) {
        // SAFETY: a tensor of ours, freed once.
        unsafe { dlb_torch_free(self.0.as_ptr()) };
    }
}

/// Turns a message of the shim into an error and frees it.
#[inline]
fn check(message: *mut c_char) -> Result<()> {
    if message.is_null() { Ok(()) } else { Err(failure(message)) }
}

#[cold]
fn failure(message: *mut c_char) -> Error {
    // SAFETY: a message of the shim is a C string, ours until it is freed.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: likewise; freed once.
    unsafe { dlb_torch_free_message(message) };
    Error::Libtorch(text)
}

/// Calls a function of the shim that makes a tensor.
#[inline]
fn make(call: impl FnOnce(*mut *mut dlb_torch_tensor) -> *mut c_char) -> Result<tch::Tensor> {
    let mut tensor = std::ptr::null_mut();
    check(call(&raw mut tensor))?;
    // SAFETY: on success the shim made a new `at::Tensor` and gave it to us.
    Ok(unsafe { tch::Tensor::from_ptr(tensor.cast()) })
}

fn handle(tensor: &tch::Tensor) -> *const dlb_torch_tensor {
    tensor.as_ptr().cast()
}

/// A plain tensor as the shim read it.
struct Read {
    descriptor: Descriptor,
    /// Why the tensor does not own its memory alone.
    shared: Option<Error>,
    /// The storage that the memory came from, if it is ours.
    context: Option<NonNull<c_void>>,
}

/// Reads a tensor, and refuses one that is not a plain strided buffer.
#[inline]
fn read(tensor: &tch::Tensor) -> Result<Read> {
    let mut view = std::mem::MaybeUninit::uninit();
    // SAFETY: a valid tensor and room for the result.
    check(unsafe { dlb_torch_read(handle(tensor), view.as_mut_ptr()) })?;
    // SAFETY: written on success.
    let view: dlb_torch_view = unsafe { view.assume_init() };
    if view.plain.cast_unsigned() != DLB_TORCH_PLAIN {
        return Err(refusal(&view));
    }
    // SAFETY: libtorch's own sizes, valid as long as the borrowed tensor is not changed.
    let shape = unsafe { numbers(view.shape, view.ndim) };
    // SAFETY: likewise.
    let strides = unsafe { numbers(view.strides, view.ndim) };
    let DLDataType { code, bits, lanes } = view.dtype;
    let (dtype, device) =
        (DType { code, bits, lanes }, Device { device_type: view.device_type, index: view.device_index });
    // libtorch's sizes and strides are not negative, and the shim compared them with the storage.
    let layout = Layout::from_checked(shape.iter().copied(), strides.iter().copied(), view.ndim, view.len);
    let descriptor = Descriptor::from_allocated(view.data, layout, dtype, device)?;
    let (shared, context) = (why_shared(view.exclusive), NonNull::new(view.context));
    // SAFETY: libtorch holds the context's reference, and nobody else uses that one: the tensor's
    // storage is not shared.
    let lent = |context: NonNull<c_void>| unsafe {
        Storage::with_thin(context.as_ptr(), |storage| !storage.reclaim())
    };
    let exported = shared.is_none() && context.is_some_and(lent);
    let shared = if exported { Some(EXPORTED) } else { shared };
    Ok(Read { descriptor, shared, context })
}

/// # Safety
/// * Unless `count` is 0, `start` points to `count` numbers that stay as they are for `'a`.
unsafe fn numbers<'a>(start: *const i64, count: usize) -> &'a [i64] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(start, count) }
}

#[cold]
fn refusal(view: &dlb_torch_view) -> Error {
    let (reason, remedy) = match view.plain.cast_unsigned() {
        DLB_TORCH_UNDEFINED => ("is undefined", "there is nothing to convert"),
        DLB_TORCH_NESTED => ("is nested", "convert its parts, or use to_padded_tensor()"),
        DLB_TORCH_NOT_STRIDED => ("is not strided (sparse or opaque)", "use to_dense() first"),
        DLB_TORCH_NO_STORAGE => ("has no storage", "copy it into an ordinary tensor first"),
        DLB_TORCH_FUNCTIONAL => ("stands for a computation", "copy it into an ordinary tensor first"),
        DLB_TORCH_REQUIRES_GRAD => ("requires grad", "use detach() first"),
        DLB_TORCH_CONJUGATE => ("has its conjugate bit set", "use resolve_conj() first"),
        DLB_TORCH_NEGATIVE => ("has its negative bit set", "use resolve_neg() first"),
        DLB_TORCH_COPY_ON_WRITE => ("is a lazy clone", "use copy() first"),
        DLB_TORCH_DTYPE => (
            "has a type of element that DLPack does not have (quantized or of odd width)",
            "use dequantize() or to_kind() first",
        ),
        DLB_TORCH_SHORT_STORAGE => ("reaches beyond its storage", "use copy() first"),
        _ => ("is on a device that DLPack does not have (meta, for one)", "move it to the CPU first"),
    };
    Error::NotPlainTensor { reason, remedy }
}

const EXPORTED: Error = Error::TorchNotExclusive {
    reason: "a DLPack struct made from it is still in use",
    remedy: "release it first, or copy with to_ndarray()",
};

#[inline]
fn why_shared(exclusive: i32) -> Option<Error> {
    if exclusive.cast_unsigned() == DLB_TORCH_EXCLUSIVE { None } else { Some(sharing(exclusive)) }
}

#[cold]
fn sharing(exclusive: i32) -> Error {
    let reason = match exclusive.cast_unsigned() {
        DLB_TORCH_SHARED_TENSOR => "a clone of the handle, a view or an autograd graph holds the tensor",
        DLB_TORCH_SHARED_STORAGE => "another tensor shares its memory",
        _ => "the memory is not from libtorch's CPU allocator (a file, pinned memory, somebody's blob)",
    };
    Error::TorchNotExclusive { reason, remedy: "drop the others first, or copy with to_ndarray()" }
}

/// Takes over a tensor that was read and owns its memory alone. The memory is exclusive if it is on
/// the host.
#[inline]
fn own(tensor: tch::Tensor, Read { descriptor, context, .. }: Read) -> Tensor {
    match context {
        Some(context) => {
            // SAFETY: the tensor's storage holds the context's reference until the tensor is dropped.
            let mut storage = unsafe { Storage::with_thin(context.as_ptr(), |storage| storage.share()) };
            drop(tensor);
            storage.reclaim();
            // Foreign memory got into libtorch through an unsafe door; nobody vouches for it here.
            let trusted = !matches!(storage.access(), Access::Aliased { .. });
            Tensor { trusted, ..Tensor::new(storage, descriptor) }
        }
        None if descriptor.device().is_host() => {
            Tensor::new(Storage::new(TorchOwner::new(tensor), Access::Exclusive, false), descriptor)
        }
        None => {
            let storage = Storage::new(TorchOwner::new(tensor), Access::Aliased { writable: true }, false);
            Tensor { trusted: false, ..Tensor::new(storage, descriptor) }
        }
    }
}

/// The host copy of a tensor that libtorch owns on another device; `None` if it does not own it.
pub(crate) fn owner_to_host(tensor: &Tensor) -> Option<Result<Tensor>> {
    // SAFETY: libtorch's calls on a tensor that nobody changes are sound from any thread, and a
    // tensor that came in through safe code has no other handle.
    let owner = unsafe { tensor.storage.peek::<TorchOwner>() }?;
    // SAFETY: a valid tensor and room for the result.
    let moved = make(|out| unsafe { dlb_torch_to_cpu(owner.0.as_ptr(), out) });
    Some(moved.and_then(|moved| Ok(moved.into_tensor()?)))
}

/// The elements of a tensor that owns its memory alone, to live as long as the tensor.
#[inline]
fn readable<T: Element, D: Dimension>(read: &mut Read) -> Result<ArrayView<'static, T, D>> {
    let data = read.descriptor.typed::<T>("ndarray")?;
    if let Some(error) = read.shared.take() {
        return Err(error);
    }
    if let Some(context) = read.context {
        // SAFETY: libtorch holds the context's reference, and nobody else uses that one.
        unsafe { Storage::with_thin(context.as_ptr(), require_readable) }?;
    }
    // SAFETY: elements of a plain tensor.
    unsafe { copy::check_bools::<T>(&read.descriptor) }?;
    // SAFETY: aligned and looked at; the caller keeps the tensor, which owns the memory alone.
    unsafe { view(data.as_ptr(), read.descriptor.layout()) }
}

/// Refuses memory of ours that nobody vouches for.
fn require_readable(storage: &mut Storage) -> Result<()> {
    if matches!(storage.access(), Access::Aliased { .. }) { Err(Error::Aliased) } else { Ok(()) }
}

/// Refuses memory of ours that would not be exclusive if it came home.
fn require_exclusive(storage: &mut Storage) -> Result<()> {
    match storage.access() {
        Access::Exclusive if storage.is_unique() => Ok(()),
        Access::Exclusive => Err(Error::NotUnique),
        Access::ReadOnly => Err(Error::ReadOnly { remedy: "use to_ndarray() to copy" }),
        Access::Aliased { .. } => Err(Error::Aliased),
    }
}

impl TorchExt for tch::Tensor {
    fn into_tensor(self) -> Result<Tensor, Rejected<Self>> {
        match read(&self) {
            Ok(Read { shared: Some(error), .. }) => Err(Rejected::new(self, error)),
            Ok(read) => Ok(own(self, read)),
            Err(error) => Err(Rejected::new(self, error)),
        }
    }

    #[inline]
    fn into_ndarray<T: Element, D: Dimension>(self) -> Result<NdArray<T, D>, Rejected<Self>> {
        let mut read = match read(&self) {
            Ok(read) => read,
            Err(error) => return Err(Rejected::new(self, error)),
        };
        match readable::<T, D>(&mut read) {
            // SAFETY: the view covers the tensor's elements, and moves into the array with it.
            Ok(view) => Ok(unsafe { NdArray::new(view, own(self, read)) }),
            Err(error) => Err(Rejected::new(self, error)),
        }
    }

    fn as_ndarray_mut<T: Element, D: Dimension>(&mut self) -> Result<ArrayViewMut<'_, T, D>> {
        let Read { descriptor, shared, context } = read(self)?;
        let data = descriptor.typed::<T>("ndarray")?;
        if let Some(error) = shared {
            return Err(error);
        }
        if let Some(context) = context {
            // SAFETY: libtorch holds the context's reference, and nobody else uses that one.
            unsafe { Storage::with_thin(context.as_ptr(), require_exclusive) }?;
        }
        let layout = descriptor.layout();
        if layout.overlaps() {
            return Err(layout.self_overlap());
        }
        // SAFETY: elements of the tensor, which it alone reaches.
        unsafe { copy::check_bools::<T>(&descriptor) }?;
        // SAFETY: aligned; only this tensor reaches the memory, and nobody clones the tensor while
        // it is mutably borrowed; bools were looked at and no element is reached twice.
        unsafe { view_mut(data.as_ptr(), layout) }
    }

    fn to_tensor(&self) -> Result<Tensor> {
        // SAFETY: a valid tensor and room for the result.
        let clone = make(|out| unsafe { dlb_torch_clone(handle(self), out) })?;
        Ok(clone.into_tensor()?)
    }

    fn to_ndarray<T: Element, D: Dimension>(&self) -> Result<Array<T, D>> {
        match read(self) {
            Ok(Read { descriptor, .. }) => {
                descriptor.typed::<T>("ndarray")?;
                // SAFETY: a plain tensor's elements are readable as long as the tensor is borrowed.
                row_major(unsafe { copy::to_vec::<T>(&descriptor) }?, descriptor.layout())
            }
            // Its copy may be a plain one.
            Err(_) => TorchExt::to_tensor(self)?.to_ndarray(),
        }
    }

    fn to_list(&self) -> Result<List> {
        TorchExt::to_tensor(self)?.to_list()
    }

    fn share_dlpack(&self) -> Result<Exported> {
        export::share(self)
    }

    unsafe fn as_ndarray_unchecked<T: Element, D: Dimension>(&self) -> Result<ArrayView<'_, T, D>> {
        let Read { descriptor, .. } = read(self)?;
        let data = descriptor.typed::<T>("ndarray")?;
        // SAFETY: elements of a plain tensor.
        unsafe { copy::check_bools::<T>(&descriptor) }?;
        // SAFETY: aligned, looked at, and by the caller's promise not written meanwhile.
        unsafe { view(data.as_ptr(), descriptor.layout()) }
    }

    unsafe fn into_tensor_unchecked(self) -> Result<Tensor, Rejected<Self>> {
        match read(&self) {
            Ok(Read { descriptor, .. }) => {
                let storage = Storage::new(TorchOwner::new(self), Access::Aliased { writable: true }, false);
                Ok(Tensor::new(storage, descriptor))
            }
            Err(error) => Err(Rejected::new(self, error)),
        }
    }
}
