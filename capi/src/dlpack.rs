//! DLPack structs in and out.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use dlbridge::ffi::{DLManagedTensor, DLManagedTensorVersioned};
use dlbridge::{Error, Imported, ManagedStruct, ManagedTensor, Rejected, Tensor};

use crate::error::{
    DLB_ERROR_READ_ONLY, Failure, InArgument, Required, describe, dlb_error, dlb_status, guard,
};
use crate::tensor::{Handle, Owner, dlb_tensor};

/// Takes a struct over. When it is refused it stays with the caller: its deleter is not called.
///
/// # Safety
/// * As for [`Imported::new`].
#[inline]
unsafe fn take<M: ManagedStruct>(source: NonNull<M>) -> Result<Handle, Failure>
where
    Owner: From<ManagedTensor<M>>,
{
    // SAFETY: the caller's promise.
    match unsafe { Imported::new(source) } {
        Ok(imported) => Ok(imported.into()),
        Err(rejected) => {
            let (source, error) = rejected.into_parts();
            let _caller_keeps_the_struct = source.into_raw();
            Err(error).argument("source")
        }
    }
}

/// Why a tensor does not go into the older struct.
#[cold]
fn legacy(rejected: Rejected<Tensor>) -> Failure {
    match rejected.into_error() {
        Error::ReadOnly { .. } => Failure::new(
            DLB_ERROR_READ_ONLY,
            "tensor: the memory is read-only, which the older struct cannot say: use dlb_tensor_share_dlpack(), or \
             export a dlb_tensor_clone()",
        ),
        error => describe("tensor", &error),
    }
}

/// Takes over a DLPack struct. No data is copied; the struct's deleter is called once, by the thread
/// that frees the last handle. The memory may be written unless the flags say READ_ONLY. Strides may be
/// NULL (row-major) and `byte_offset` is honoured.
///
/// A struct that this library made is unwrapped and freed at once, unless it was changed. Any other stays as
/// it is, but for its deleter: until the struct is released another one stands there, which does nothing, so
/// that taking or releasing it a second time by mistake is noticed as long as it is held. (A struct without a
/// deleter may be a constant, and is not touched.)
///
/// Ownership: takes `source`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_from_dlpack(
    source: Option<NonNull<DLManagedTensorVersioned>>,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (source, out) = (source.required("source")?, out.required("out")?);
        // SAFETY: the caller of the C function owns a valid struct and answers for what it says; no
        // Rust view of the memory is ever made here.
        out.write(unsafe { take(source) }?.into_raw());
        Ok(())
    })
}

/// Takes over a DLPack struct of the older kind, as dlb_tensor_from_dlpack(). It has no flags, so its
/// memory is taken for read-only, as NumPy does, unless this library made the struct and nobody changed
/// it. (If you know better, give its `dl_tensor`, and the struct as owner, to dlb_tensor_from_memory().)
///
/// Ownership: takes `source`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_from_dlpack_legacy(
    source: Option<NonNull<DLManagedTensor>>,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (source, out) = (source.required("source")?, out.required("out")?);
        // SAFETY: as in `dlb_tensor_from_dlpack`.
        out.write(unsafe { take(source) }?.into_raw());
        Ok(())
    })
}

/// Makes a DLPack struct that is one more owner of the memory. No data is copied. The struct says
/// READ_ONLY exactly when the memory is read-only; otherwise the memory may be written, by its other
/// holders too.
///
/// Ownership: borrows `tensor`; returns new, call its deleter.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_share_dlpack(
    tensor: Option<&dlb_tensor>,
    out: Option<&mut MaybeUninit<NonNull<DLManagedTensorVersioned>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        out.write(tensor.tensor("tensor")?.into_dlpack().into_raw());
        Ok(())
    })
}

/// Moves a handle into a DLPack struct, as dlb_tensor_share_dlpack() and dlb_tensor_free() in one.
///
/// Ownership: takes `tensor`; returns new, call its deleter.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_into_dlpack(
    tensor: Option<NonNull<dlb_tensor>>,
    out: Option<&mut MaybeUninit<NonNull<DLManagedTensorVersioned>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        // SAFETY: a handle of the caller's.
        let exported = unsafe { tensor.as_ref() }.tensor("tensor")?.into_dlpack();
        out.write(exported.into_raw());
        // SAFETY: likewise, taken now that nothing can fail.
        drop(unsafe { Handle::from_raw(tensor) });
        Ok(())
    })
}

/// Makes a DLPack struct of the older kind that is one more owner of the memory. No data is copied.
/// Refuses read-only memory, for which that struct has no flag.
///
/// Ownership: borrows `tensor`; returns new, call its deleter.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_share_dlpack_legacy(
    tensor: Option<&dlb_tensor>,
    out: Option<&mut MaybeUninit<NonNull<DLManagedTensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        out.write(tensor.tensor("tensor")?.into_dlpack_legacy().map_err(legacy)?.into_raw());
        Ok(())
    })
}

/// Moves a handle into a DLPack struct of the older kind, as dlb_tensor_share_dlpack_legacy() and
/// dlb_tensor_free() in one.
///
/// Ownership: takes `tensor`; returns new, call its deleter.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_into_dlpack_legacy(
    tensor: Option<NonNull<dlb_tensor>>,
    out: Option<&mut MaybeUninit<NonNull<DLManagedTensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        // SAFETY: a handle of the caller's.
        let exported = unsafe { tensor.as_ref() }.tensor("tensor")?.into_dlpack_legacy().map_err(legacy)?;
        out.write(exported.into_raw());
        // SAFETY: likewise, taken now that nothing can fail.
        drop(unsafe { Handle::from_raw(tensor) });
        Ok(())
    })
}
