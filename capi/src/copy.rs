//! Deep copies.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use dlbridge::{Error, MemoryFormat};

use crate::device;
use crate::error::{DLB_ERROR_INVALID_ARGUMENT, Failure, InArgument, Required, dlb_error, dlb_status, guard};
use crate::tensor::{Handle, dlb_tensor};

/// Keeps the order of the strides and closes gaps, as `torch.clone` does.
pub const DLB_MEMORY_FORMAT_PRESERVE: i32 = 0;
/// Row-major.
pub const DLB_MEMORY_FORMAT_CONTIGUOUS: i32 = 1;
/// Of N, C, H, W: C varies fastest.
pub const DLB_MEMORY_FORMAT_CHANNELS_LAST: i32 = 2;
/// Of N, C, D, H, W: C varies fastest.
pub const DLB_MEMORY_FORMAT_CHANNELS_LAST_3D: i32 = 3;

/// Copies the data into new memory on the same device, laid out as `memory_format`
/// (DLB_MEMORY_FORMAT_*) says. The new memory may be written, whatever the source's. `stream` is as for
/// dlb_tensor_to_device().
///
/// Ownership: borrows `tensor`; returns new, free with dlb_tensor_free(); nobody else holds the memory.
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
        let format = match memory_format {
            DLB_MEMORY_FORMAT_PRESERVE => MemoryFormat::Preserve,
            DLB_MEMORY_FORMAT_CONTIGUOUS => MemoryFormat::Contiguous,
            DLB_MEMORY_FORMAT_CHANNELS_LAST => MemoryFormat::ChannelsLast,
            DLB_MEMORY_FORMAT_CHANNELS_LAST_3D => MemoryFormat::ChannelsLast3d,
            other => {
                let message = format!("memory_format = {other}: it is none of DLB_MEMORY_FORMAT_*");
                return Err(Failure::new(DLB_ERROR_INVALID_ARGUMENT, message));
            }
        };
        let tensor = tensor.tensor("tensor")?;
        device::check_stream(tensor.device(), stream)?;
        device::require_reach("tensor", tensor.device())?;
        let clone = device::on_stream(tensor.device(), stream, |stream| match stream {
            None => tensor.deep_clone_with(format),
            #[cfg(feature = "cuda")]
            Some(stream) => tensor.deep_clone_on(format, &stream),
        });
        out.write(Handle::from(clone.argument("tensor")?).into_raw());
        Ok(())
    })
}

/// Copies the elements of `source` to those of `target`, whatever the two layouts. Shapes and element
/// types are equal. Bytes between the elements of `target` are not touched. Packed elements below a byte
/// are copied only between contiguous tensors, the last byte whole. Refuses a target that is read-only,
/// overlaps itself (or interleaves, so that it might), or shares memory with `source`. `stream` is as for
/// dlb_tensor_to_device(): host memory is not in use any more when the function returns, and a target on a device
/// is complete in the order of the stream.
///
/// Ownership: borrows both. Nobody else reads or writes the memory of `target` meanwhile.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_copy_into(
    source: Option<&dlb_tensor>,
    target: Option<NonNull<dlb_tensor>>,
    stream: i64,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (source, target) = (source.required("source")?, target.required("target")?);
        // SAFETY: a handle of the caller's, which may be `source` itself: therefore no `&mut`.
        let handle = unsafe { target.as_ref() };
        let (source, target) = (source.tensor("source")?, handle.tensor("target")?);
        let busy = device::busy(source.device(), target.device());
        device::check_stream(busy, stream)?;
        for (name, tensor) in [("source", &source), ("target", &target)] {
            device::require_reach(name, tensor.device())?;
        }
        if !handle.is_writable() {
            return Err(Error::ReadOnly { remedy: "" }).argument("target");
        }
        let copied = device::on_stream(busy, stream, |stream| match stream {
            // SAFETY: the caller keeps others away from the target; no Rust view is ever made here.
            None => unsafe { source.copy_into_unchecked(&target) },
            #[cfg(feature = "cuda")]
            // SAFETY: likewise.
            Some(stream) => unsafe { source.copy_into_unchecked_on(&target, &stream) },
        });
        copied.or_else(|error| {
            use Error::{DTypeMismatch, ShapeMismatch, UnsupportedDType};
            let of_source =
                matches!(error, ShapeMismatch { .. } | DTypeMismatch { .. } | UnsupportedDType { .. });
            Err(error).argument(if of_source { "source" } else { "target" })
        })
    })
}
