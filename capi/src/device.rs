//! Devices and streams: what is copied where, and in whose order.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use dlbridge::ffi::{DLDevice, kDLCUDA, kDLCUDAHost, kDLCUDAManaged};
use dlbridge::{Device, Tensor};

use crate::error::{
    DLB_ERROR_DEVICE, DLB_ERROR_INVALID_ARGUMENT, DLB_ERROR_UNSUPPORTED, Failure, InArgument, Required,
    dlb_error, dlb_status, guard,
};
use crate::tensor::{Handle, dlb_tensor};

/// No stream: the caller answers for the order. For the host, which has no streams.
pub const DLB_STREAM_NO_SYNC: i64 = -1;
/// CUDA's legacy default stream.
pub const DLB_STREAM_LEGACY_DEFAULT: i64 = 1;
/// CUDA's per-thread default stream.
pub const DLB_STREAM_PER_THREAD_DEFAULT: i64 = 2;

/// Copies the data to a device, in the order of the source's strides: always into new memory, also when
/// it is there already.
///
/// Ownership: borrows `tensor`; returns new, free with dlb_tensor_free(); nobody else holds the memory.
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
        out.write(Handle::from(transfer(&tensor.tensor("tensor")?, of(device), stream)?).into_raw());
        Ok(())
    })
}

/// Moves a tensor to a device: through unchanged when its memory is there already (for the host, pinned
/// memory counts too), otherwise by one copy. `*out` may be the variable that holds `tensor`.
///
/// Ownership: takes `tensor`; returns that handle or a new one, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_into_device(
    tensor: Option<NonNull<dlb_tensor>>,
    device: DLDevice,
    stream: i64,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        // SAFETY: a handle of the caller's.
        let kept = unsafe { tensor.as_ref() };
        let (source, target) = (of(kept.view().device), of(device));
        if source == target || (source.is_host() && target == Device::CPU) {
            check_stream(target, stream)?;
            out.write(tensor);
        } else {
            out.write(Handle::from(transfer(&kept.tensor("tensor")?, target, stream)?).into_raw());
            // SAFETY: likewise, taken now that nothing can fail.
            drop(unsafe { Handle::from_raw(tensor) });
        }
        Ok(())
    })
}

/// Waits until everything that was put on a stream of a device is done. On the host there is nothing to
/// wait for.
///
/// Ownership: nothing changes hands.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_synchronize(
    device: DLDevice,
    stream: i64,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let device = of(device);
        check_stream(device, stream)?;
        require(Place::Memory, "device", device)
    })
}

pub(crate) fn of(device: DLDevice) -> Device {
    Device { kind: device.device_type.cast_signed(), index: device.device_id }
}

fn transfer(tensor: &Tensor, target: Device, stream: i64) -> Result<Tensor, Failure> {
    check_stream_between(tensor.device(), target, stream)?;
    require(Place::Memory, "tensor", tensor.device())?;
    require(Place::NewMemory, "device", target)?;
    tensor.deep_clone().argument("tensor")
}

/// What a device is wanted for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Place {
    /// To work with memory that is there.
    Memory,
    /// To make memory there.
    NewMemory,
}

/// Refuses devices that this build cannot work with.
pub(crate) fn require(place: Place, argument: &str, device: Device) -> Result<(), Failure> {
    let host = match place {
        Place::Memory => device.is_host(),
        Place::NewMemory => device == Device::CPU,
    };
    if host {
        return Ok(());
    }
    let cuda = [kDLCUDA, kDLCUDAHost, kDLCUDAManaged].contains(&device.kind.cast_unsigned());
    Err(if cuda {
        let message = format!("{argument}: {device} needs CUDA, which this build of dlbridge does not have");
        Failure::new(DLB_ERROR_UNSUPPORTED, message)
    } else {
        let index = if device.kind == Device::CPU.kind { " (the host's index is 0)" } else { "" };
        Failure::new(DLB_ERROR_DEVICE, format!("{argument}: dlbridge cannot copy to or from {device}{index}"))
    })
}

/// Refuses numbers that are no streams of the device that a copy between two keeps busy.
pub(crate) fn check_stream_between(source: Device, target: Device, stream: i64) -> Result<(), Failure> {
    check_stream(if source.is_host() { target } else { source }, stream)
}

/// Refuses numbers that are no streams of a device.
pub(crate) fn check_stream(device: Device, stream: i64) -> Result<(), Failure> {
    let kind = device.kind.cast_unsigned();
    let reason = match stream {
        DLB_STREAM_NO_SYNC => return Ok(()),
        i64::MIN..0 => "streams have no negative numbers but -1",
        0 if kind == kDLCUDA || kind == kDLCUDAManaged => {
            "on CUDA, 0 could mean either default stream: use 1 (legacy) or 2 (per thread)"
        }
        1.. if device.is_host() => "the host has no streams: use DLB_STREAM_NO_SYNC or 0",
        _ => return Ok(()),
    };
    Err(Failure::new(DLB_ERROR_INVALID_ARGUMENT, format!("stream = {stream}: {reason}")))
}
