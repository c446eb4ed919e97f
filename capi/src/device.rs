//! Copies and moves between devices, and the order of work on streams.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use dlbridge::ffi::DLDevice;
use dlbridge::{Device, Error, Tensor};

use crate::error::{
    DLB_ERROR_DEVICE, Failure, InArgument, Required, describe, dlb_error, dlb_status, guard,
};
use crate::handle::{Handle, dlb_tensor};
use crate::stream;

/// Copies the data to a device, always into new memory, even if `tensor` is on that device already.
/// The copy keeps the order of the source's strides. {kDLCUDAHost, 0} is page-locked memory of the
/// host.
///
/// `stream` is a stream of the CUDA device that takes part (of the source's device, if both are
/// CUDA devices). The library does not use host memory after the function has returned. A copy on a
/// device is complete in the order of `stream`, which must exist until the copy, and every tensor
/// made from its memory, is freed.
///
/// Ownership: borrows `tensor`; returns new, free with dlb_tensor_free(); no other handle has the
/// memory.
///
/// Example of the functions for devices:
///
/// ```c
/// int64_t shape[] = {2, 3};
/// DLDevice cpu = {kDLCPU, 0}, cuda = {kDLCUDA, 0};
/// DLTensor desc = {NULL, cpu, 2, {kDLFloat, 32, 1}, shape, NULL, 0};
/// dlb_tensor *tensor = NULL, *on_device = NULL;
/// dlb_error *error = NULL;
/// dlb_status status = dlb_tensor_empty(&desc, &tensor, NULL);
/// assert(status == DLB_OK);
/// status = dlb_tensor_to_device(tensor, cuda, DLB_STREAM_LEGACY_DEFAULT, &on_device, &error);
/// if (status != DLB_OK) { // no CUDA in this build or on this machine: stay on the host
///   puts(dlb_error_message(error));
///   dlb_error_free(error);
///   on_device = dlb_tensor_share(tensor);
/// }
/// dlb_tensor_free(tensor);
/// // To the host: one copy from a device, and the same handle if the memory is there already.
/// status = dlb_tensor_into_device(on_device, cpu, DLB_STREAM_LEGACY_DEFAULT, &on_device, NULL);
/// assert(status == DLB_OK && dlb_tensor_view(on_device)->device.device_type == kDLCPU);
/// dlb_tensor_free(on_device);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_to_device(
    tensor: Option<&dlb_tensor>,
    device: DLDevice,
    stream: i64,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        let copy = transfer(&tensor.share_tensor(), from_dlpack(device), stream)?;
        out.write(Handle::from_tensor(copy).into_raw());
        Ok(())
    })
}

/// Moves a tensor to a device. Returns the handle unchanged if the memory is on the device already
/// (pinned memory counts as memory of the CPU). Otherwise makes one copy, as dlb_tensor_to_device()
/// does, and frees the handle. `out` may point to the variable that holds `tensor`.
///
/// Ownership: consumes `tensor`; returns that handle or a new one, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_into_device(
    tensor: Option<NonNull<dlb_tensor>>,
    device: DLDevice,
    stream: i64,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (raw, out) = (tensor.required("tensor")?, out.required("out")?);
        // SAFETY: the caller of the C function owns the handle, which lives until it is consumed
        // below.
        let tensor = unsafe { raw.as_ref() };
        let (source, target) = (from_dlpack(tensor.view().device), from_dlpack(device));
        if source == target || (source.is_host() && target == Device::CPU) {
            stream::check(target, stream)?;
            out.write(raw);
            return Ok(());
        }
        let copy = transfer(&tensor.share_tensor(), target, stream)?;
        out.write(Handle::from_tensor(copy).into_raw());
        // SAFETY: the caller gives up the handle on success, and nothing can fail any more.
        drop(unsafe { Handle::from_raw(raw) });
        Ok(())
    })
}

/// Makes the contents ready for use on a stream: work that is put on `stream` after this call waits
/// for the contents. When the memory is released, it is not reused before the work that is on
/// `stream` at that time is done, as with PyTorch's Tensor.record_stream.
///
/// Call it with the consumer's stream before you pass device memory to a consumer, for instance as
/// a DLPack struct. Without this call the contents are ready on the legacy default stream only.
/// `stream` must exist until the tensor, and every tensor made from its memory, is freed. Does
/// nothing for host memory, and with DLB_STREAM_NO_SYNC.
///
/// Ownership: borrows `tensor`.
///
/// Example of the functions for streams. On the host they do nothing, so the same code serves for
/// tensors of every device:
///
/// ```c
/// int64_t shape[] = {2, 3};
/// int64_t stream = DLB_STREAM_LEGACY_DEFAULT; // or a CUstream: (int64_t)(intptr_t)handle
/// DLTensor desc = {NULL, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, NULL, 0};
/// dlb_tensor *tensor = NULL;
/// dlb_status status = dlb_tensor_empty(&desc, &tensor, NULL);
/// assert(status == DLB_OK);
/// // Another library fills the memory on `stream`: what dlbridge does with it comes later.
/// status = dlb_tensor_wait_stream(tensor, stream, NULL);
/// assert(status == DLB_OK);
/// // Another library reads the memory on `stream`: its work waits for that of dlbridge.
/// status = dlb_tensor_record_stream(tensor, stream, NULL);
/// assert(status == DLB_OK);
/// // The host waits for all work on `stream`.
/// status = dlb_synchronize(dlb_tensor_view(tensor)->device, stream, NULL);
/// assert(status == DLB_OK);
/// dlb_tensor_free(tensor);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_record_stream(
    tensor: Option<&dlb_tensor>,
    stream: i64,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let tensor = tensor.required("tensor")?.share_tensor();
        if !tensor.device().is_host() {
            require_stream_and_device(tensor.device(), stream)?;
            stream::record(&tensor, stream)?;
        }
        Ok(())
    })
}

/// Makes the library wait for a stream: all its work on the tensor's memory after this call comes
/// after the work that is on `stream` at the time of the call, as with PyTorch's
/// Stream.wait_stream.
///
/// Call it for device memory that was imported while a producer still fills it on `stream`. Without
/// this call the library assumes that the memory is filled in the order of the legacy default
/// stream. Does nothing for host memory, and with DLB_STREAM_NO_SYNC.
///
/// Ownership: borrows `tensor`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_wait_stream(
    tensor: Option<&dlb_tensor>,
    stream: i64,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let tensor = tensor.required("tensor")?.share_tensor();
        if !tensor.device().is_host() {
            require_stream_and_device(tensor.device(), stream)?;
            stream::wait(&tensor, stream)?;
        }
        Ok(())
    })
}

/// Blocks until all work that was put on a stream of a device is done. Does nothing for the host,
/// and with DLB_STREAM_NO_SYNC.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_synchronize(
    device: DLDevice,
    stream: i64,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let device = from_dlpack(device);
        stream::check(device, stream)?;
        require_available("device", device)?;
        stream::synchronize(device, stream)
    })
}

pub(crate) fn from_dlpack(device: DLDevice) -> Device {
    Device { device_type: device.device_type.cast_signed(), index: device.device_id }
}

/// Copies a tensor to `target`, on the stream that the number `stream` names.
fn transfer(tensor: &Tensor, target: Device, stream: i64) -> Result<Tensor, Failure> {
    let stream_device = stream::device_of_copy(tensor.device(), target);
    stream::check(stream_device, stream)?;
    require_reachable("tensor", tensor.device())?;
    require_available("device", target)?;
    stream::run_on(stream_device, stream, |stream| match stream {
        None => tensor.to_device(target),
        #[cfg(feature = "cuda")]
        Some(stream) => tensor.to_device_on(target, &stream),
    })
    .argument("tensor")
}

/// Refuses numbers that name no stream of the tensor's device, and devices that are not available.
fn require_stream_and_device(device: Device, stream: i64) -> Result<(), Failure> {
    stream::check(device, stream)?;
    require_reachable("tensor", device)
}

/// Refuses memory that this build or this machine cannot copy. All memory of the host is reachable.
pub(crate) fn require_reachable(argument: &str, device: Device) -> Result<(), Failure> {
    if device.is_host() { Ok(()) } else { require_available(argument, device) }
}

/// Refuses devices that this build or this machine does not have. Pinned memory needs CUDA.
pub(crate) fn require_available(argument: &str, device: Device) -> Result<(), Failure> {
    device.check_available().map_err(|error| match error {
        Error::UnsupportedDevice { .. } => {
            let is_cpu = device.device_type == Device::CPU.device_type;
            let hint = if is_cpu { " (the host's index is 0)" } else { "" };
            let message = format!("{argument}: dlbridge cannot copy to or from {device}{hint}");
            Failure::new(DLB_ERROR_DEVICE, message)
        }
        error => describe(argument, &error),
    })
}
