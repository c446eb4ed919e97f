//! Numbers of streams: which of them a device accepts, and how work runs on the stream that one
//! names.

#[cfg(feature = "cuda")]
use dlbridge::Stream;
use dlbridge::ffi::{kDLCUDA, kDLCUDAManaged};
use dlbridge::{Device, Tensor};

#[cfg(feature = "cuda")]
use crate::error::InArgument;
use crate::error::{DLB_ERROR_INVALID_ARGUMENT, Failure};

/// No stream. A copy to or from a CUDA device is complete when its function returns;
/// dlb_tensor_record_stream(), dlb_tensor_wait_stream() and dlb_synchronize() do nothing.
pub const DLB_STREAM_NO_SYNC: i64 = -1;
/// CUDA's legacy default stream. For the host it means the same as DLB_STREAM_NO_SYNC.
pub const DLB_STREAM_LEGACY_DEFAULT: i64 = 1;
/// CUDA's per-thread default stream.
pub const DLB_STREAM_PER_THREAD_DEFAULT: i64 = 2;

/// Without CUDA there are no streams.
#[cfg(not(feature = "cuda"))]
pub(crate) type Stream = std::convert::Infallible;

/// Refuses numbers that name no stream of `device`.
pub(crate) fn check(device: Device, stream: i64) -> Result<(), Failure> {
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

/// The device whose stream a copy from `source` to `target` runs on.
pub(crate) fn device_of_copy(source: Device, target: Device) -> Device {
    if source.is_host() { target } else { source }
}

/// Calls `run` with the stream of `device` that `number` names, or with `None` on the host. With
/// `DLB_STREAM_NO_SYNC` on a CUDA device it is a new stream, and the work on it is done when this
/// returns.
pub(crate) fn run_on<R>(
    device: Device,
    number: i64,
    run: impl FnOnce(Option<Stream>) -> dlbridge::Result<R>,
) -> dlbridge::Result<R> {
    #[cfg(feature = "cuda")]
    {
        if number != DLB_STREAM_NO_SYNC || device.is_host() {
            return run(named(device, number)?);
        }
        let stream = Stream::new(Device::cuda(device.index))?;
        let outcome = run(Some(stream.clone()))?;
        stream.synchronize()?;
        Ok(outcome)
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _without_streams = (device, number);
        run(None)
    }
}

/// Waits for the work on the stream of `device` that `number` names. Does nothing on the host, and
/// with `DLB_STREAM_NO_SYNC`.
pub(crate) fn synchronize(device: Device, number: i64) -> Result<(), Failure> {
    #[cfg(feature = "cuda")]
    if let Some(stream) = named(device, number).argument("stream")? {
        return stream.synchronize().argument("device");
    }
    let _without_streams = (device, number);
    Ok(())
}

/// [`Tensor::record_stream`] for the stream that `number` names. Does nothing on the host, and with
/// `DLB_STREAM_NO_SYNC`.
pub(crate) fn record(tensor: &Tensor, number: i64) -> Result<(), Failure> {
    #[cfg(feature = "cuda")]
    if let Some(stream) = named(tensor.device(), number).argument("stream")? {
        return tensor.record_stream(&stream).argument("tensor");
    }
    let _without_streams = (tensor, number);
    Ok(())
}

/// [`Tensor::wait_stream`] for the stream that `number` names. Does nothing on the host, and with
/// `DLB_STREAM_NO_SYNC`.
pub(crate) fn wait(tensor: &Tensor, number: i64) -> Result<(), Failure> {
    #[cfg(feature = "cuda")]
    if let Some(stream) = named(tensor.device(), number).argument("stream")? {
        return tensor.wait_stream(&stream).argument("tensor");
    }
    let _without_streams = (tensor, number);
    Ok(())
}

/// The stream of `device` that `number` names; `None` on the host, and with `DLB_STREAM_NO_SYNC`.
#[cfg(feature = "cuda")]
fn named(device: Device, number: i64) -> dlbridge::Result<Option<Stream>> {
    if device.is_host() || number == DLB_STREAM_NO_SYNC {
        return Ok(None);
    }
    // SAFETY: the caller of the C function guarantees that the stream exists, for as long as its
    // documentation says.
    unsafe { Stream::from_raw(Device::cuda(device.index), number, ()) }.map(Some)
}
