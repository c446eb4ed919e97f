//! DLPack structs in and out.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use dlbridge::ffi::{DLManagedTensor, DLManagedTensorVersioned};
use dlbridge::{Imported, ManagedStruct, ManagedTensor};

use crate::error::{Failure, InArgument, Required, dlb_error, dlb_status, guard};
use crate::handle::{Handle, HandleSource, dlb_tensor};

/// Consumes a struct. A struct that is refused stays with the caller: its deleter is not called.
/// `source_of` is the variant of [`HandleSource`] for structs of type `M`.
///
/// # Safety
/// * The preconditions of [`Imported::new`] hold for `source`: the caller owns a valid struct, and
///   the struct describes initialised memory that stays valid until the deleter is called.
#[inline]
unsafe fn import<M: ManagedStruct>(
    source: NonNull<M>,
    source_of: fn(ManagedTensor<M>) -> HandleSource,
) -> Result<Handle, Failure> {
    // SAFETY: the caller of `import` guarantees the preconditions of `Imported::new`.
    match unsafe { Imported::new(source) } {
        Ok(imported) => Ok(Handle::from_imported(imported, source_of)),
        Err(rejected) => {
            let (source, error) = rejected.into_parts();
            let _stays_with_the_caller = source.into_raw();
            Err(error).argument("source")
        }
    }
}

/// Consumes a DLPack struct. No data is copied; the struct's deleter is called once, by the thread
/// that frees the last handle. The memory may be written unless the flags of the struct have
/// DLPACK_FLAG_BITMASK_READ_ONLY. `strides` may be NULL (row-major); the first element is at
/// `data + byte_offset`. Every byte from the lowest to the highest element, the bytes between the
/// elements included, must be initialised, and valid until the deleter is called. All numbers are
/// copied during the call and checked in the copy, so later changes of the struct have no effect.
///
/// A struct that this library made is unwrapped and freed at once, unless it was changed. In any
/// other struct the library writes only the field `deleter`: until the struct is released, this
/// field holds a function that does nothing. So the library can refuse a second import of the
/// struct, and a second call of the deleter has no effect. (A struct without a deleter may be a
/// constant, and is not written.)
///
/// Ownership: consumes `source`; returns new, free with dlb_tensor_free().
///
/// Example of the functions for DLPack structs:
///
/// ```c
/// int64_t shape[] = {2, 3};
/// DLTensor desc = {NULL, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, NULL, 0};
/// dlb_tensor *tensor = NULL, *back = NULL;
/// struct DLManagedTensorVersioned *shared = NULL, *moved = NULL;
/// dlb_status status = dlb_tensor_empty(&desc, &tensor, NULL);
/// assert(status == DLB_OK);
///
/// // One more owner of the memory, for a consumer, which calls the deleter once.
/// status = dlb_tensor_share_dlpack(tensor, &shared, NULL);
/// assert(status == DLB_OK && shared->dl_tensor.data == dlb_tensor_view(tensor)->data);
/// shared->deleter(shared);
///
/// // The handle moves into a struct, and the struct into a handle. On failure of the import the
/// // struct still belongs to the caller, which must call the deleter.
/// status = dlb_tensor_into_dlpack(tensor, &moved, NULL);
/// assert(status == DLB_OK);
/// status = dlb_tensor_from_dlpack(moved, &back, NULL);
/// if (status != DLB_OK && moved->deleter != NULL) moved->deleter(moved);
/// assert(status == DLB_OK && dlb_tensor_view(back)->shape[1] == 3);
/// dlb_tensor_free(back);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_from_dlpack(
    source: Option<NonNull<DLManagedTensorVersioned>>,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (source, out) = (source.required("source")?, out.required("out")?);
        // SAFETY: the caller of the C function owns a valid struct and guarantees that the memory
        // is as the struct describes it; this package makes no Rust view of the memory.
        let handle = unsafe { import(source, HandleSource::Managed) }?;
        out.write(handle.into_raw());
        Ok(())
    })
}

/// Consumes a DLPack struct of the older type, which has neither version nor flags. The memory is
/// read-only, as it is for NumPy, unless this library made the struct and the struct was not
/// changed. (If you know that the memory may be written, call dlb_tensor_from_memory() with the
/// struct's `dl_tensor` as `desc`, the struct as `owner`, and a `release` that calls the struct's
/// deleter.) The other rules are those of dlb_tensor_from_dlpack().
///
/// Ownership: consumes `source`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_from_dlpack_legacy(
    source: Option<NonNull<DLManagedTensor>>,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (source, out) = (source.required("source")?, out.required("out")?);
        // SAFETY: the caller of the C function owns a valid struct and guarantees that the memory
        // is as the struct describes it; this package makes no Rust view of the memory.
        let handle = unsafe { import(source, HandleSource::ManagedLegacy) }?;
        out.write(handle.into_raw());
        Ok(())
    })
}

/// Makes a DLPack struct that is one more owner of the memory. No data is copied. The struct has
/// DLPACK_FLAG_BITMASK_READ_ONLY exactly when the memory is read-only; otherwise its consumer may
/// write the memory, and so may other owners. For device memory, call dlb_tensor_record_stream()
/// with the consumer's stream before the consumer uses the memory.
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
        out.write(tensor.share_tensor().into_dlpack().into_raw());
        Ok(())
    })
}

/// Moves a handle into a DLPack struct. The effect is that of dlb_tensor_share_dlpack() followed by
/// dlb_tensor_free(). No data is copied.
///
/// Ownership: consumes `tensor`; returns new, call its deleter.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_into_dlpack(
    tensor: Option<NonNull<dlb_tensor>>,
    out: Option<&mut MaybeUninit<NonNull<DLManagedTensorVersioned>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        // SAFETY: the caller of the C function owns the handle, which lives until it is consumed
        // below.
        let exported = unsafe { tensor.as_ref() }.share_tensor().into_dlpack();
        out.write(exported.into_raw());
        // SAFETY: the caller gives up the handle on success, and nothing can fail any more.
        drop(unsafe { Handle::from_raw(tensor) });
        Ok(())
    })
}

/// Makes a DLPack struct of the older type that is one more owner of the memory. No data is copied.
/// Refuses read-only memory, because the older struct has no flag for it.
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
        let exported = tensor.share_tensor().into_dlpack_legacy().argument("tensor")?;
        out.write(exported.into_raw());
        Ok(())
    })
}

/// Moves a handle into a DLPack struct of the older type. The effect is that of
/// dlb_tensor_share_dlpack_legacy() followed by dlb_tensor_free(). No data is copied.
///
/// Ownership: consumes `tensor`; returns new, call its deleter.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_into_dlpack_legacy(
    tensor: Option<NonNull<dlb_tensor>>,
    out: Option<&mut MaybeUninit<NonNull<DLManagedTensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        // SAFETY: the caller of the C function owns the handle, which lives until it is consumed
        // below.
        let shared = unsafe { tensor.as_ref() }.share_tensor();
        let exported = shared.into_dlpack_legacy().argument("tensor")?;
        out.write(exported.into_raw());
        // SAFETY: the caller gives up the handle on success, and nothing can fail any more.
        drop(unsafe { Handle::from_raw(tensor) });
        Ok(())
    })
}
