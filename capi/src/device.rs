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
/// CUDA devices). Host memory on either side is no longer in use when the function returns; a copy
/// on a device is complete in the order of `stream`, which must exist until the copy, and every
/// tensor made from its memory, is freed.
///
/// Ownership: borrows `tensor`; returns new, free with dlb_tensor_free(); no other handle has the
/// memory.
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

/// Moves a tensor to a device: returns it unchanged if its memory is there already (for the CPU,
/// pinned memory counts too), and otherwise makes one copy, as dlb_tensor_to_device() does. `out`
/// may point to the variable that holds `tensor`.
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

/// Makes the contents ready for use on a stream: work that is put on `stream` from now on waits for
/// the contents. When the memory is released, it is not reused before the work that is on `stream`
/// by then is done, which is what PyTorch's Tensor.record_stream does.
///
/// Call it with the consumer's stream before you hand device memory to a consumer, for instance as
/// a DLPack struct. Without it the contents are ready on the legacy default stream only. `stream`
/// must exist until the tensor, and every tensor made from its memory, is released. Does nothing
/// for host memory, and with DLB_STREAM_NO_SYNC.
///
/// Ownership: borrows `tensor`.
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

/// Makes the library wait for a stream: everything that it does with the tensor's memory from now
/// on comes after the work that is on `stream` by now, as after Stream.wait_stream of PyTorch.
///
/// Call it for device memory that was imported while a producer still fills it on `stream`. Without
/// it the memory counts as filled in the order of the legacy default stream. Does nothing for host
/// memory, and with DLB_STREAM_NO_SYNC.
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

/// Blocks until all work that was put on a stream of a device is done. Returns at once for the
/// host.
///
/// Ownership: nothing changes hands.
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
            let remedy = if is_cpu { " (the host's index is 0)" } else { "" };
            let message = format!("{argument}: dlbridge cannot copy to or from {device}{remedy}");
            Failure::new(DLB_ERROR_DEVICE, message)
        }
        error => describe(argument, &error),
    })
}
