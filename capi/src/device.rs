//! Devices and streams: what is copied where, and in whose order.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

#[cfg(feature = "cuda")]
use dlbridge::Stream;
use dlbridge::ffi::{DLDevice, kDLCUDA, kDLCUDAManaged};
use dlbridge::{Device, Error, Tensor};

use crate::error::{
    DLB_ERROR_DEVICE, DLB_ERROR_INVALID_ARGUMENT, Failure, InArgument, Required, describe, dlb_error,
    dlb_status, guard,
};
use crate::tensor::{Handle, dlb_tensor};

/// No stream. For the host, which has none. A copy to or from a CUDA device is done when its function returns;
/// dlb_tensor_record_stream(), dlb_tensor_wait_stream() and dlb_synchronize() do nothing.
pub const DLB_STREAM_NO_SYNC: i64 = -1;
/// CUDA's legacy default stream. For the host as good as none.
pub const DLB_STREAM_LEGACY_DEFAULT: i64 = 1;
/// CUDA's per-thread default stream.
pub const DLB_STREAM_PER_THREAD_DEFAULT: i64 = 2;

/// Copies the data to a device, in the order of the source's strides: always into new memory, also when
/// it is there already. {kDLCUDAHost, 0} is page-locked memory of the host.
///
/// `stream` is one of the CUDA device that takes part (the source's, if there are two). Host memory on either side is
/// not in use any more when the function returns; a copy on a device is complete in the order of the stream, which
/// lives until the copy is freed, and all that was made of it.
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
/// memory counts too), otherwise by one copy, as dlb_tensor_to_device() makes it. `*out` may be the variable that
/// holds `tensor`.
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

/// Makes the contents ready for work on a stream: what is put on it from now on waits for them, and when the
/// memory is released it is not used for something else before what is on the stream by then is done. Whoever
/// hands device memory on, as a DLPack struct for one, calls this with its consumer's stream; without it the
/// memory is ready on the legacy default stream. The stream lives until the tensor, and all that was made of
/// it, is released. Does nothing for host memory, and with DLB_STREAM_NO_SYNC.
///
/// Ownership: borrows `tensor`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_record_stream(
    tensor: Option<&dlb_tensor>,
    stream: i64,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let tensor = tensor.required("tensor")?.tensor("tensor")?;
        with_stream(&tensor, stream, StreamAction::Record)
    })
}

/// Says that what is on a stream by now writes the tensor's memory: what the library does with it from now on
/// comes after. For device memory that is taken over while it is being filled; without it the memory counts
/// as filled in the order of the legacy default stream. Does nothing for host memory, and with
/// DLB_STREAM_NO_SYNC.
///
/// Ownership: borrows `tensor`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_wait_stream(
    tensor: Option<&dlb_tensor>,
    stream: i64,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let tensor = tensor.required("tensor")?.tensor("tensor")?;
        with_stream(&tensor, stream, StreamAction::Wait)
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
        require("device", device)?;
        #[cfg(feature = "cuda")]
        if let Some(stream) = stream_of(device, stream).argument("stream")? {
            stream.synchronize().argument("device")?;
        }
        Ok(())
    })
}

pub(crate) fn of(device: DLDevice) -> Device {
    Device { device_type: device.device_type.cast_signed(), index: device.device_id }
}

/// What is said of a stream and a tensor's memory.
#[derive(Clone, Copy)]
enum StreamAction {
    Record,
    Wait,
}

fn with_stream(tensor: &Tensor, stream: i64, action: StreamAction) -> Result<(), Failure> {
    if tensor.device().is_host() {
        return Ok(());
    }
    check_stream(tensor.device(), stream)?;
    require_reach("tensor", tensor.device())?;
    #[cfg(feature = "cuda")]
    if let Some(stream) = stream_of(tensor.device(), stream).argument("stream")? {
        return match action {
            StreamAction::Record => tensor.record_stream(&stream),
            StreamAction::Wait => tensor.wait_stream(&stream),
        }
        .argument("tensor");
    }
    let _nothing = action;
    Ok(())
}

fn transfer(tensor: &Tensor, target: Device, stream: i64) -> Result<Tensor, Failure> {
    check_stream(busy(tensor.device(), target), stream)?;
    require_reach("tensor", tensor.device())?;
    require("device", target)?;
    on_stream(busy(tensor.device(), target), stream, |stream| match stream {
        None => tensor.to_device(target),
        #[cfg(feature = "cuda")]
        Some(stream) => tensor.to_device_on(target, &stream),
    })
    .argument("tensor")
}

/// Without CUDA there are no streams.
#[cfg(not(feature = "cuda"))]
pub(crate) type Stream = std::convert::Infallible;

/// Runs a copy that keeps a device busy, on the stream of this number. On the host there is none.
pub(crate) fn on_stream<R>(
    device: Device,
    number: i64,
    run: impl FnOnce(Option<Stream>) -> dlbridge::Result<R>,
) -> dlbridge::Result<R> {
    #[cfg(feature = "cuda")]
    if number == DLB_STREAM_NO_SYNC && !device.is_host() {
        let stream = Stream::new(Device::cuda(device.index))?;
        let outcome = run(Some(stream.clone()))?;
        stream.synchronize()?;
        return Ok(outcome);
    }
    #[cfg(feature = "cuda")]
    return run(stream_of(device, number)?);
    #[cfg(not(feature = "cuda"))]
    {
        let _host = (device, number);
        run(None)
    }
}

/// The stream of this number; none on the host, nor with DLB_STREAM_NO_SYNC.
#[cfg(feature = "cuda")]
fn stream_of(device: Device, number: i64) -> dlbridge::Result<Option<Stream>> {
    if device.is_host() || number == DLB_STREAM_NO_SYNC {
        return Ok(None);
    }
    // SAFETY: the caller of the C function answers for the stream, and for how long it lives.
    unsafe { Stream::from_raw(Device::cuda(device.index), number, ()) }.map(Some)
}

/// Refuses memory that this build or this machine cannot reach.
pub(crate) fn require_reach(argument: &str, device: Device) -> Result<(), Failure> {
    if device.is_host() { Ok(()) } else { require(argument, device) }
}

/// Refuses devices that this build or this machine does not have.
pub(crate) fn require(argument: &str, device: Device) -> Result<(), Failure> {
    device.check_available().map_err(|error| match error {
        Error::UnsupportedDevice { .. } => {
            let index =
                if device.device_type == Device::CPU.device_type { " (the host's index is 0)" } else { "" };
            Failure::new(
                DLB_ERROR_DEVICE,
                format!("{argument}: dlbridge cannot copy to or from {device}{index}"),
            )
        }
        error => describe(argument, &error),
    })
}

/// The device whose stream a copy between two is put on.
pub(crate) fn busy(source: Device, target: Device) -> Device {
    if source.is_host() { target } else { source }
}

/// Refuses numbers that are no streams of a device.
pub(crate) fn check_stream(device: Device, stream: i64) -> Result<(), Failure> {
    let device_type = device.device_type.cast_unsigned();
    let reason = match stream {
        DLB_STREAM_NO_SYNC | DLB_STREAM_LEGACY_DEFAULT => return Ok(()),
        i64::MIN..0 => "streams have no negative numbers but -1",
        0 if device_type == kDLCUDA || device_type == kDLCUDAManaged => {
            "on CUDA, 0 could mean either default stream: use 1 (legacy) or 2 (per thread)"
        }
        2.. if device.is_host() => {
            "the host has no streams: use DLB_STREAM_NO_SYNC or DLB_STREAM_LEGACY_DEFAULT"
        }
        _ => return Ok(()),
    };
    Err(Failure::new(DLB_ERROR_INVALID_ARGUMENT, format!("stream = {stream}: {reason}")))
}
