//! Conversions of libtorch tensors.

use super::bindings::dlb_torch_clone;
use super::export;
use super::moved::{into_any_ndarray, own, own_exclusive, usual_view};
use super::owner::TorchOwner;
use super::shim::{handle, make};
use super::tensor_info::{TensorInfo, require_copyable, tensor_info};
#[cfg(doc)]
use crate::Access;
use crate::ndarray::{
    ArrayDimension, ArrayOf, ArrayVersion, ArrayViewMutOf, ArrayViewOf, NdArray, Token,
};
use crate::shared_buffer::SharedBuffer;
use crate::storage::{Storage, StorageState};
use crate::{Element, Error, Exported, List, Rejected, Remedy, Result, Tensor, host_copy};

/// Conversions of libtorch tensors.
///
/// `into_` and `as_` methods need a tensor that is a plain strided buffer and owns its memory
/// alone: no other tensor, view, lazy clone, autograd graph or file shares it. A tensor is plain if
/// libtorch's dispatch keys for it are those of ordinary tensors of the CPU or of CUDA, and no
/// others; an error names the key or the layout that is not. `to_` methods copy. They also accept
/// tensors that share their memory, require grad, are conjugated or negated, zero tensors and lazy
/// clones. Every method may return [`Error::Libtorch`] with libtorch's message.
///
/// ```
/// use dlbridge::{ArrayTorchExt, TorchExt};
/// use ndarray::{Ix2, array};
///
/// let mut tensor = tch::Tensor::from_slice2(&[[1.0_f32, 2.0], [3.0, 4.0]]);
/// let copy = tensor.to_ndarray::<f32, Ix2>()?;        // other memory
/// tensor.as_ndarray_mut::<f32, Ix2>()?[[0, 0]] = 5.0; // the tensor's memory, while borrowed
/// let array = tensor.into_ndarray::<f32, Ix2>()?;     // the tensor's memory, moved
/// assert_eq!((array[[0, 0]], copy[[0, 0]]), (5.0, 1.0));
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `tch::Tensor` of the tch version that dlbridge uses",
    label = "not a `tch::Tensor`",
    note = "`cargo tree` shows the versions of tch; dlbridge and the program must use the same one"
)]
pub trait TorchExt: Sized {
    /// Moves the tensor. Nothing is copied.
    ///
    /// Memory that came from this crate becomes what it was there. A CUDA tensor that libtorch
    /// allocated becomes [`Access::Aliased`]: it can be moved back and copied between devices. It
    /// counts as written on the legacy default stream, which is libtorch's default; if another
    /// stream writes it, call `wait_stream`.
    ///
    /// ```
    /// use dlbridge::{Access, TorchExt};
    ///
    /// let tensor = tch::Tensor::from_slice(&[1.0_f32, 2.0, 3.0]).into_tensor()?;
    /// assert_eq!(tensor.access(), Access::Exclusive);
    /// assert_eq!(tensor.as_slice::<f32>()?, [1.0, 2.0, 3.0]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TorchNotExclusive`] if other code reaches the memory; [`Error::NotPlainTensor`] if
    /// the tensor is not a plain strided buffer, has elements but no memory, or reaches beyond its
    /// storage. The tensor comes back inside the error.
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
    /// [`Error::Aliased`] for memory that came in through an `unsafe` function. The tensor comes
    /// back inside the error.
    fn into_ndarray<T: Element, D: ArrayDimension>(self) -> Result<NdArray<T, D>, Rejected<Self>>;

    /// Borrows the tensor as an array view that may be written. Nothing is copied.
    ///
    /// This is how safe code shares memory with libtorch: write through the view and drop it. Then
    /// libtorch reads the written elements. There is no view from `&self`, because a tensor can be
    /// cloned through `&self` and written on another thread.
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
    /// As for [`into_ndarray`](Self::into_ndarray), and [`Error::SelfOverlap`];
    /// [`Error::NotUnique`] or [`Error::ReadOnly`] for memory that came from this crate and of
    /// which it has another handle.
    fn as_ndarray_mut<T: Element, D: ArrayDimension>(&mut self)
    -> Result<ArrayViewMutOf<'_, T, D>>;

    /// Copies the tensor, in the order of its strides.
    ///
    /// Gradients are not copied. Lazy conjugation and negation are applied to the copy, and the
    /// copy of a zero tensor has zeros in memory.
    ///
    /// ```
    /// use dlbridge::TorchExt;
    ///
    /// let weights = tch::Tensor::from_slice(&[1.0_f32, 2.0]).set_requires_grad(true);
    /// let copy = weights.to_tensor()?; // `into_tensor` refuses a tensor that requires grad
    /// assert_eq!(copy.as_slice::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPlainTensor`] if the copy would not be a plain strided buffer either (sparse,
    /// nested, quantized, meta, batched, …); [`Error::Libtorch`].
    fn to_tensor(&self) -> Result<Tensor>;

    /// Copies the elements into a new row-major `Array`: Python's `t.numpy(force=True).copy()`.
    ///
    /// ```
    /// use dlbridge::TorchExt;
    /// use ndarray::{Ix2, array};
    ///
    /// let tensor = tch::Tensor::from_slice2(&[[1_i64, 2], [3, 4]]);
    /// let transposed = tensor.tr(); // shares the memory, which `to_` methods accept
    /// assert_eq!(transposed.to_ndarray::<i64, Ix2>()?, array![[1, 3], [2, 4]]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`to_tensor`](Self::to_tensor), and [`Error::NotOnCpu`], [`Error::DTypeMismatch`],
    /// [`Error::RankMismatch`], [`Error::InvalidBool`].
    fn to_ndarray<T: Element, D: ArrayDimension>(&self) -> Result<ArrayOf<T, D>>;

    /// Copies the elements into nested lists: Python's `t.tolist()`.
    ///
    /// ```
    /// use dlbridge::TorchExt;
    ///
    /// let tensor = tch::Tensor::from_slice2(&[[1_i64, 2], [3, 4]]);
    /// assert_eq!(TorchExt::to_list(&tensor)?.to_string(), "[[1, 2], [3, 4]]");
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`to_tensor`](Self::to_tensor), [`Error::NotOnCpu`], and
    /// [`Error::TooManyDimensions`] beyond 64.
    fn to_list(&self) -> Result<List>;

    /// Makes a DLPack struct that is another owner of the same memory. Nothing is copied.
    ///
    /// The consumer may write the memory, as with libtorch's own exports. Code that dereferences
    /// the struct's pointer must make sure that no other code uses the memory meanwhile.
    ///
    /// The first export makes this crate the owner of the memory, so that libtorch cannot free it
    /// while a struct is in use. From then on libtorch makes no lazy clones of the tensor, and a
    /// resize gives the tensor other memory than the struct. The first export needs a tensor that
    /// owns its memory alone; later ones do not. When the last struct is released,
    /// [`into_ndarray`](Self::into_ndarray) and the other moving methods work again.
    ///
    /// ```
    /// use dlbridge::TorchExt;
    /// use ndarray::Ix1;
    ///
    /// let mut tensor = tch::Tensor::from_slice(&[1.0_f32, 2.0]);
    /// let exported = tensor.share_dlpack()?; // give `exported.into_raw()` to another library
    /// assert!(tensor.as_ndarray_mut::<f32, Ix1>().is_err());
    /// drop(exported);
    /// tensor.as_ndarray_mut::<f32, Ix1>()?[0] = 5.0;
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`into_tensor`](Self::into_tensor), and [`Error::NotOnCpu`]; [`Error::NotUnique`] or
    /// [`Error::ReadOnly`] for memory that came from this crate and of which it has another handle.
    fn share_dlpack(&self) -> Result<Exported>;

    /// Borrows the tensor as an array view, without proof that no code writes the memory.
    ///
    /// ```
    /// use dlbridge::TorchExt;
    /// use ndarray::Ix1;
    ///
    /// let weights = tch::Tensor::from_slice(&[1.0_f32, 2.0]);
    /// let also = weights.shallow_clone(); // so `as_ndarray_mut` is refused
    /// // SAFETY: no code writes, resizes or frees the memory while the view lives.
    /// let view = unsafe { weights.as_ndarray_unchecked::<f32, Ix1>()? };
    /// assert_eq!(view.sum(), 3.0);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// Everything but that proof is checked: the tensor is a plain strided buffer (zero tensors,
    /// sparse tensors and others are refused by name here too), its storage has memory and covers
    /// all elements, the memory is on the host and aligned, element type and rank are right, and
    /// the bytes of bools are 0 or 1.
    ///
    /// # Errors
    /// As for [`into_ndarray`](Self::into_ndarray), but for [`Error::TorchNotExclusive`] and
    /// [`Error::Aliased`].
    ///
    /// # Safety
    /// * While the call runs and the view lives, no code writes any byte from the lowest to the
    ///   highest element of the tensor: not through this handle, its clones, views and other
    ///   tensors of the same storage, nor outside of libtorch, on any thread.
    /// * During that time, no code frees, resizes or replaces the memory: `resize_` beyond the
    ///   storage, `set_source_tensor_`, `set_data`, and the first write to a lazy clone do.
    unsafe fn as_ndarray_unchecked<T: Element, D: ArrayDimension>(
        &self,
    ) -> Result<ArrayViewOf<'_, T, D>>;

    /// Moves the tensor without proof that no other code reaches its memory. Nothing is copied.
    ///
    /// The result is [`Access::Aliased`], writable and trusted: views of it are possible.
    ///
    /// ```
    /// use dlbridge::TorchExt;
    ///
    /// let weights = tch::Tensor::from_slice(&[1.0_f32, 2.0]);
    /// let also = weights.shallow_clone();
    /// // SAFETY: no code writes, resizes or frees the memory while `tensor` lives.
    /// let tensor = unsafe { weights.into_tensor_unchecked() }?;
    /// assert_eq!(tensor.as_slice::<f32>()?, [1.0, 2.0]);
    /// assert_eq!(also.data_ptr(), tensor.data_ptr());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// Everything but that proof is checked: the tensor is a plain strided buffer (zero tensors,
    /// sparse tensors and others are refused by name here too), its storage has memory and covers
    /// all elements.
    ///
    /// # Errors
    /// [`Error::NotPlainTensor`] if the tensor is not a plain strided buffer. The tensor comes back
    /// inside the error.
    ///
    /// # Safety
    /// * Until the result and everything that shares its memory is dropped, no code resizes or
    ///   replaces the memory: `resize_` beyond the storage, `set_source_tensor_`, `set_data` and
    ///   the first write to a lazy clone do.
    /// * While a Rust view of the memory lives or a call of this crate reads it, no code writes any
    ///   byte from the lowest to the highest element.
    /// * A bool buffer holds the bytes 0 and 1 only.
    unsafe fn into_tensor_unchecked(self) -> Result<Tensor, Rejected<Self>>;
}

/// Programs that the borrow checker rejects.
///
/// ```compile_fail,E0502
/// use dlbridge::TorchExt;
/// let mut tensor = tch::Tensor::zeros([3], tch::kind::FLOAT_CPU);
/// let view = tensor.as_ndarray_mut::<f32, ndarray::Ix1>().unwrap();
/// let clone = tensor.shallow_clone(); // while a view may write the memory
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
/// let escaped = array.lend_torch(|tensor| tensor).unwrap(); // the closure's own tensor
/// drop(escaped);
/// ```
///
/// ```compile_fail,E0277
/// use dlbridge::ArrayTorchExt;
/// let mut array = ndarray::array![1.0_f32];
/// array.view_mut().lend_torch(|_| ()).unwrap(); // a view does not own its memory
/// ```
///
/// ```compile_fail,E0277
/// use dlbridge::ArrayTorchExt;
/// let array = ndarray::array![1.0_f32];
/// array.view().lend_torch_or_abort(|_| ()).unwrap(); // libtorch would write
/// ```
#[cfg(doctest)]
struct BorrowChecks;

impl TorchExt for tch::Tensor {
    fn into_tensor(self) -> Result<Tensor, Rejected<Self>> {
        let info = tensor_info(&self).and_then(|mut info| {
            // SAFETY: `self` is the tensor that was read.
            unsafe { info.reclaim() };
            info.require_alone()?;
            Ok(info)
        });
        match info {
            // SAFETY: the info was just read from this tensor, and says that it is alone.
            Ok(info) => Ok(unsafe { own(self, info) }),
            Err(error) => Err(Rejected::new(self, error)),
        }
    }

    #[inline]
    fn into_ndarray<T: Element, D: ArrayDimension>(self) -> Result<NdArray<T, D>, Rejected<Self>> {
        let info = match tensor_info(&self) {
            Ok(info) => info,
            Err(error) => return Err(Rejected::new(self, error)),
        };
        // SAFETY: the view moves into the array with the tensor.
        match unsafe { usual_view::<T, D>(&info) } {
            Some(view) => {
                // SAFETY: `usual_view` found that only this tensor reaches the memory.
                let tensor = unsafe { own_exclusive(self, info.descriptor) };
                // SAFETY: the view covers the tensor's elements, and moves into the array with it.
                Ok(unsafe { NdArray::new(view, tensor) })
            }
            None => {
                // SAFETY: the info was just read from this tensor.
                let array = unsafe { into_any_ndarray(self, info) };
                array.map_err(|(tensor, error)| Rejected::new(tensor, error))
            }
        }
    }

    fn as_ndarray_mut<T: Element, D: ArrayDimension>(
        &mut self,
    ) -> Result<ArrayViewMutOf<'_, T, D>> {
        let mut info = tensor_info(self)?;
        // SAFETY: `self` is the tensor that was read.
        unsafe { info.reclaim() };
        let data = info.descriptor.host_ptr::<T>("ndarray")?;
        info.require_alone()?;
        // SAFETY: the tensor is borrowed, and was just found to own its memory alone.
        unsafe { info.with_storage(require_exclusive) }?;
        let layout = info.descriptor.layout();
        if layout.overlaps() {
            return Err(layout.self_overlap());
        }
        // SAFETY: `host_ptr` checked type and device; a plain tensor's elements are readable, and
        // only this tensor, which is mutably borrowed, reaches them.
        unsafe { host_copy::check_bools::<T>(&info.descriptor) }?;
        // SAFETY: aligned; only this tensor reaches the memory, and it cannot be cloned while it is
        // mutably borrowed; bools were checked, and no element is reached twice.
        unsafe { D::Version::view_mut(data, layout, Token(())) }
    }

    fn to_tensor(&self) -> Result<Tensor> {
        require_copyable(self)?;
        // SAFETY: a valid tensor and room for the result.
        let clone = make(|out| unsafe { dlb_torch_clone(handle(self), out) })?;
        Ok(clone.into_tensor()?)
    }

    fn to_ndarray<T: Element, D: ArrayDimension>(&self) -> Result<ArrayOf<T, D>> {
        match tensor_info(self) {
            Ok(TensorInfo { descriptor, .. }) => {
                descriptor.host_ptr::<T>("ndarray")?;
                // SAFETY: a plain tensor's elements are readable as long as it is borrowed.
                let elements = unsafe { host_copy::to_vec::<T>(&descriptor) }?;
                D::Version::row_major(elements, descriptor.layout(), Token(()))
            }
            // Its copy may be a plain one.
            Err(_) => TorchExt::to_tensor(self)?.to_ndarray::<T, D>(),
        }
    }

    fn to_list(&self) -> Result<List> {
        TorchExt::to_tensor(self)?.to_list()
    }

    fn share_dlpack(&self) -> Result<Exported> {
        export::share(self)
    }

    unsafe fn as_ndarray_unchecked<T: Element, D: ArrayDimension>(
        &self,
    ) -> Result<ArrayViewOf<'_, T, D>> {
        let TensorInfo { descriptor, .. } = tensor_info(self)?;
        let data = descriptor.host_ptr::<T>("ndarray")?;
        // SAFETY: `host_ptr` checked type and device; a plain tensor's elements are readable.
        unsafe { host_copy::check_bools::<T>(&descriptor) }?;
        // SAFETY: aligned, bools checked, and the caller guarantees that no one writes meanwhile.
        unsafe { D::Version::view(data, descriptor.layout(), Token(())) }
    }

    unsafe fn into_tensor_unchecked(self) -> Result<Tensor, Rejected<Self>> {
        match tensor_info(&self) {
            Ok(TensorInfo { descriptor, .. }) => {
                let storage = Storage::aliased_with_hooks(TorchOwner::new(self), true);
                // SAFETY: libtorch's tensor keeps its elements; the caller guarantees that they are
                // not moved.
                let buffer = unsafe { SharedBuffer::new(storage, descriptor) };
                // SAFETY: the caller guarantees that no one writes while views exist.
                Ok(unsafe { Tensor::from_trusted_buffer(buffer) })
            }
            Err(error) => Err(Rejected::new(self, error)),
        }
    }
}

/// Refuses memory of a storage of this crate that would not be exclusive if libtorch returned it.
fn require_exclusive(storage: &mut Storage) -> Result<()> {
    match storage.state() {
        StorageState::Exclusive if storage.is_unique() => Ok(()),
        StorageState::Exclusive => Err(Error::NotUnique),
        StorageState::ReadOnly => Err(Error::ReadOnly { remedy: Remedy::CopyFromTorch }),
        StorageState::Aliased { .. } => Err(Error::Aliased),
    }
}
