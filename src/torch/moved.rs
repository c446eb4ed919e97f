//! Moves of libtorch tensors that own their memory alone.

use super::owner::TorchOwner;
use super::tensor_info::TensorInfo;
use crate::ndarray::{ArrayDimension, ArrayVersion, ArrayViewOf, NdArray, Token};
use crate::shared_buffer::SharedBuffer;
use crate::storage::{Storage, StorageState};
use crate::{DType, Descriptor, Element, Error, Result, Tensor, host_copy};

/// Makes a [`Tensor`] of a libtorch tensor. The memory is exclusive if it is on the host.
///
/// # Safety
/// * The info is that of `tensor`, which was found to own its memory alone.
#[inline]
pub(super) unsafe fn own(
    tensor: tch::Tensor,
    TensorInfo { descriptor, context, .. }: TensorInfo,
) -> Tensor {
    if context.is_none() && descriptor.device().is_host() {
        // SAFETY: the caller guarantees that the tensor owns its memory alone.
        return unsafe { own_exclusive(tensor, descriptor) };
    }
    let storage = match context {
        Some(context) => {
            // SAFETY: the tensor's storage holds the context's reference until the tensor is
            // dropped.
            let mut storage =
                unsafe { Storage::with_raw(context.as_ptr(), |storage| storage.share()) };
            drop(tensor);
            // SAFETY: libtorch's counts said that only the tensor, which is gone, reached the
            // memory.
            unsafe { storage.reclaim() };
            storage
        }
        None => Storage::aliased_with_hooks(TorchOwner::new(tensor), true),
    };
    // SAFETY: the storage keeps the elements, which the shim compared with libtorch's storage.
    // Memory that got into libtorch through an `unsafe` function is not trusted here.
    Tensor::from_buffer(unsafe { SharedBuffer::new(storage, descriptor) })
}

/// Makes a [`Tensor`] of a libtorch tensor whose host memory is from libtorch's allocator.
///
/// # Safety
/// * Libtorch's counts and the memory's deleter prove that only this tensor reaches the memory.
#[inline]
pub(super) unsafe fn own_exclusive(tensor: tch::Tensor, descriptor: Descriptor) -> Tensor {
    // SAFETY: the caller guarantees that only this tensor reaches the memory.
    let storage = unsafe { Storage::exclusive(TorchOwner::new(tensor)) };
    // SAFETY: the storage keeps the elements, which the shim compared with libtorch's storage.
    Tensor::from_buffer(unsafe { SharedBuffer::new(storage, descriptor) })
}

/// The elements of a tensor, to live as long as the tensor, in the usual case: libtorch allocated
/// the memory, only the tensor reaches it, bytes need not be checked, and there are elements.
/// `None` means "not the usual case".
///
/// # Safety
/// * The view is used only as long as the tensor lives that the info was read from.
#[inline(always)]
pub(super) unsafe fn usual_view<T: Element, D: ArrayDimension>(
    info: &TensorInfo,
) -> Option<ArrayViewOf<'static, T, D>> {
    let data = info.descriptor.typed_host_ptr::<T>()?;
    if T::DTYPE == DType::BOOL || !info.is_exclusive_on_host() {
        return None;
    }
    // SAFETY: `typed_host_ptr` checked type, device and alignment; a plain tensor's elements are
    // readable, and every bit pattern is a `T`. The caller keeps the tensor, which owns the memory
    // alone.
    unsafe { D::Version::usual_view(data, info.descriptor.layout(), Token(())) }
}

/// [`TorchExt::into_ndarray`] in all cases.
///
/// # Safety
/// * The info was just read from `tensor`.
#[cold]
pub(super) unsafe fn into_any_ndarray<T: Element, D: ArrayDimension>(
    tensor: tch::Tensor,
    mut info: TensorInfo,
) -> Result<NdArray<T, D>, (tch::Tensor, Error)> {
    // SAFETY: `tensor` is the tensor that was read, as the caller guarantees.
    unsafe { info.reclaim() };
    // SAFETY: the view moves into the array with the tensor.
    match unsafe { view_owned::<T, D>(&info) } {
        Ok(view) => {
            // SAFETY: the info is that of the tensor, which `view_owned` found to be alone.
            let tensor = unsafe { own(tensor, info) };
            // SAFETY: the view covers the tensor's elements, and moves into the array with it.
            Ok(unsafe { NdArray::new(view, tensor) })
        }
        Err(error) => Err((tensor, error)),
    }
}

/// The elements of a tensor that owns its memory alone, to live as long as the tensor.
///
/// # Safety
/// * The view is used only as long as the tensor lives that the info was just read from.
#[inline]
unsafe fn view_owned<T: Element, D: ArrayDimension>(
    info: &TensorInfo,
) -> Result<ArrayViewOf<'static, T, D>> {
    let data = info.descriptor.host_ptr::<T>("ndarray")?;
    info.require_alone()?;
    // SAFETY: the caller has the tensor, which was just found to own its memory alone.
    unsafe { info.with_storage(require_viewable) }?;
    // SAFETY: `host_ptr` checked type and device; a plain tensor's elements are readable.
    unsafe { host_copy::check_bools::<T>(&info.descriptor) }?;
    // SAFETY: aligned and checked; the caller keeps the tensor, which owns the memory alone.
    unsafe { D::Version::view(data, info.descriptor.layout(), Token(())) }
}

/// Refuses memory of a storage of this crate that code outside the crate may write.
fn require_viewable(storage: &mut Storage) -> Result<()> {
    match storage.state() {
        StorageState::Aliased { .. } => Err(Error::Aliased),
        StorageState::Exclusive | StorageState::ReadOnly => Ok(()),
    }
}
