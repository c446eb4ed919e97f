//! Streams of devices, as Python names them.

use dlbridge::{Device, Stream};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use crate::device::{CUDA, ROCM};
use crate::error::buffer_error;
use crate::release::{PyOwner, ensure_ready};

/// The legacy default stream of a CUDA or ROCm device, on which work is ordered unless another
/// stream is named; `None` for other devices.
pub(crate) fn default_stream(device: Device) -> Option<i64> {
    match device.device_type {
        CUDA => Some(1),
        ROCM => Some(0),
        _ => None,
    }
}

/// Reads `stream=`: the stream on which a consumer works. `None` for the default stream, on which
/// every export is ready.
pub(crate) fn parse_stream(device: Device, stream: &Bound<'_, PyAny>) -> PyResult<Option<Stream>> {
    let number = stream_number(stream)?;
    match (device.device_type, number) {
        (_, -1) => Ok(None),
        (CUDA | ROCM, _) if Some(number) == default_stream(device) => Ok(None),
        (CUDA, 2..) => {
            ensure_ready(stream.py())?;
            // SAFETY: the stream must be alive until the owner is dropped: the consumer guarantees
            // it for a number (DLPack's rule for `stream=`); an object is kept as the owner.
            unsafe { Stream::from_raw(device, number, StreamOwner::new(stream)) }
                .map(Some)
                .map_err(buffer_error)
        }
        (ROCM, 1..) => Err(PyBufferError::new_err(format!(
            "dlbridge can't make stream {number} wait: pass None, and work on the default stream \
             of {device}"
        ))),
        _ => Err(PyValueError::new_err(format!("{number} is not a stream of {device}"))),
    }
}

/// The number of a stream that is an int, or an object with `__cuda_stream__`.
fn stream_number(stream: &Bound<'_, PyAny>) -> PyResult<i64> {
    let Some(protocol) = stream.getattr_opt(intern!(stream.py(), "__cuda_stream__"))? else {
        return stream
            .extract::<i64>()
            .map_err(|_| PyTypeError::new_err("stream must be an int or None"));
    };
    match protocol.call0()?.extract::<(i64, i64)>()? {
        (0, number) => Ok(number),
        (version, _) => Err(PyBufferError::new_err(format!(
            "version {version} of __cuda_stream__ is not supported, only version 0"
        ))),
    }
}

/// The object that a stream was read from.
struct StreamOwner(#[expect(dead_code, reason = "owned, not read")] PyOwner);

// SAFETY: shared references must be usable from several threads: nothing reads through them, and
// `PyOwner` attaches the thread that drops it.
unsafe impl Sync for StreamOwner {}

impl StreamOwner {
    fn new(object: &Bound<'_, PyAny>) -> Self {
        Self(PyOwner::new(object))
    }
}
