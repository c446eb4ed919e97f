//! Deep copies.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use dlbridge::{Error, MemoryFormat, Remedy};

use crate::device::require_reachable;
use crate::error::{
    DLB_ERROR_INVALID_ARGUMENT, Failure, InArgument, Required, describe, dlb_error, dlb_status,
    guard,
};
use crate::handle::{Handle, dlb_tensor};
use crate::stream;

/// The copy keeps the order of the source's strides and has no gaps, as after `torch.clone`.
pub const DLB_MEMORY_FORMAT_PRESERVE: i32 = 0;
/// Row-major.
pub const DLB_MEMORY_FORMAT_CONTIGUOUS: i32 = 1;
/// NHWC: for shape (N, C, H, W), channels have stride 1.
pub const DLB_MEMORY_FORMAT_CHANNELS_LAST: i32 = 2;
/// NDHWC: for shape (N, C, D, H, W), channels have stride 1.
pub const DLB_MEMORY_FORMAT_CHANNELS_LAST_3D: i32 = 3;

/// Copies the data into new memory on the same device, in the layout `memory_format` (one of
/// DLB_MEMORY_FORMAT_*). The copy may be written, even if `tensor` is read-only. `stream` has the
/// meaning that it has for dlb_tensor_to_device().
///
/// Ownership: borrows `tensor`; returns new, free with dlb_tensor_free(); no other handle has the
/// memory.
///
/// Example of the functions that copy:
///
/// ```c
/// static const float columns[] = {0, 1, 2, 3, 4, 5}; // 3 columns of 2 numbers each
/// int64_t shape[] = {2, 3}, strides[] = {1, 2};
/// DLTensor desc = {(void *)columns, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, strides, 0};
/// dlb_tensor *source = NULL, *clone = NULL, *target = NULL;
/// const float *copied;
/// dlb_status status =
///     dlb_tensor_from_memory(&desc, DLPACK_FLAG_BITMASK_READ_ONLY, NULL, NULL, &source, NULL);
/// assert(status == DLB_OK);
/// status =
///     dlb_tensor_clone(source, DLB_MEMORY_FORMAT_CONTIGUOUS, DLB_STREAM_NO_SYNC, &clone, NULL);
/// assert(status == DLB_OK && dlb_tensor_view(clone)->strides[0] == 3); // row-major
/// assert(dlb_tensor_flags(clone) == 0);                                // the clone may be written
///
/// // A target that is allocated once serves for many copies.
/// desc.strides = NULL;
/// status = dlb_tensor_empty(&desc, &target, NULL);
/// assert(status == DLB_OK);
/// status = dlb_tensor_copy_into(source, target, DLB_STREAM_NO_SYNC, NULL);
/// assert(status == DLB_OK);
/// copied = dlb_tensor_view(target)->data;
/// assert(copied[0] == 0 && copied[1] == 2 && copied[3] == 1);
/// dlb_tensor_free(target);
/// dlb_tensor_free(clone);
/// dlb_tensor_free(source);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_clone(
    tensor: Option<&dlb_tensor>,
    memory_format: i32,
    stream: i64,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        let format = named_format(memory_format)?;
        let tensor = tensor.share_tensor();
        stream::check(tensor.device(), stream)?;
        require_reachable("tensor", tensor.device())?;
        let clone = stream::run_on(tensor.device(), stream, |stream| match stream {
            None => tensor.deep_clone_with(format),
            #[cfg(feature = "cuda")]
            Some(stream) => tensor.deep_clone_on(format, &stream),
        });
        out.write(Handle::from_tensor(clone.argument("tensor")?).into_raw());
        Ok(())
    })
}

/// The format that one of `DLB_MEMORY_FORMAT_*` names.
fn named_format(memory_format: i32) -> Result<MemoryFormat, Failure> {
    match memory_format {
        DLB_MEMORY_FORMAT_PRESERVE => Ok(MemoryFormat::Preserve),
        DLB_MEMORY_FORMAT_CONTIGUOUS => Ok(MemoryFormat::Contiguous),
        DLB_MEMORY_FORMAT_CHANNELS_LAST => Ok(MemoryFormat::ChannelsLast),
        DLB_MEMORY_FORMAT_CHANNELS_LAST_3D => Ok(MemoryFormat::ChannelsLast3d),
        other => {
            let message = format!("memory_format = {other}: it is none of DLB_MEMORY_FORMAT_*");
            Err(Failure::new(DLB_ERROR_INVALID_ARGUMENT, message))
        }
    }
}

/// Copies the elements of `source` to those of `target`. Shapes and element types must be equal;
/// strides may differ. Bytes between the elements of `target` are not written. Packed elements of
/// less than a byte are copied only between contiguous tensors; from or to a device, the last byte
/// is copied whole. Refuses a target that is read-only, whose elements overlap or interleave, or
/// that shares memory with `source`. `stream` has the meaning that it has for
/// dlb_tensor_to_device(): the library does not use host memory after the function has returned,
/// and a target on a device is complete in the order of `stream`.
///
/// Ownership: borrows both. The caller makes sure that no other code reads or writes the memory of
/// `target` during the copy.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_copy_into(
    source: Option<&dlb_tensor>,
    target: Option<NonNull<dlb_tensor>>,
    stream: i64,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (source, target) = (source.required("source")?, target.required("target")?);
        // SAFETY: the caller of the C function passes a handle that lives during the call. It is
        // not made a `&mut`, because `source` may be the same object.
        let target_handle = unsafe { target.as_ref() };
        let (source, target) = (source.share_tensor(), target_handle.share_tensor());
        let stream_device = stream::device_of_copy(source.device(), target.device());
        stream::check(stream_device, stream)?;
        require_reachable("source", source.device())?;
        require_reachable("target", target.device())?;
        if !target_handle.is_writable() {
            return Err(Error::ReadOnly { remedy: Remedy::WriteToClone }).argument("target");
        }
        stream::run_on(stream_device, stream, |stream| match stream {
            // SAFETY: the caller of the C function guarantees that no other code uses the target's
            // memory, and this package makes no Rust view of it.
            None => unsafe { source.copy_into_unchecked(&target) },
            #[cfg(feature = "cuda")]
            // SAFETY: the caller of the C function guarantees that no other code uses the target's
            // memory, and this package makes no Rust view of it.
            Some(stream) => unsafe { source.copy_into_unchecked_on(&target, &stream) },
        })
        .map_err(|error| match error {
            // The fact names both arguments.
            Error::ShapeMismatch { .. } => Failure::new(error.status(), error.fact().to_string()),
            error => describe(argument_of(&error), &error),
        })
    })
}

/// The argument of `dlb_tensor_copy_into` that an error is about.
fn argument_of(error: &Error) -> &'static str {
    match error {
        Error::DTypeMismatch { .. } | Error::UnsupportedDType { .. } => "source",
        _ => "target",
    }
}
