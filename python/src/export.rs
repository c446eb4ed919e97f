//! Out: `__dlpack__`, with all that a consumer may ask for.

use dlbridge::ffi::DLPACK_FLAG_BITMASK_READ_ONLY;
use dlbridge::{Error, Stream, Tensor};
use pyo3::Borrowed;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

use crate::capsule;
use crate::copies;
use crate::device::{self, TargetDevice};
use crate::error::{buffer_error, tuple};

/// What a consumer asks of `__dlpack__`; all optional.
pub(crate) struct ExportArgs<'a, 'py> {
    pub(crate) stream: Option<Borrowed<'a, 'py, PyAny>>,
    pub(crate) max_version: Option<Borrowed<'a, 'py, PyAny>>,
    pub(crate) dl_device: Option<Borrowed<'a, 'py, PyAny>>,
    pub(crate) copy: Option<Borrowed<'a, 'py, PyAny>>,
}

/// Makes the capsule.
#[inline]
pub(crate) fn dlpack<'py>(
    py: Python<'py>,
    tensor: &Tensor,
    args: &ExportArgs<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let versioned = args.max_version.map_or(Ok(false), |version| wants_versioned(&version))?;
    let copy = args.copy.map(|copy| copies::flag(&copy)).transpose()?;
    let target = match args.dl_device {
        Some(wanted) => Some(TargetDevice::from_device(device::from_pair(&wanted)?)),
        None => None,
    };
    let moved = target.is_some_and(|target| !target.holds(tensor.device()));
    // The stream is one of the device on which the consumer gets the memory.
    let device = target.filter(|_| moved).map_or(tensor.device(), TargetDevice::device);
    let stream = match args.stream {
        Some(stream) => device::stream_of(device, &stream)?,
        None => None,
    };
    if moved && let Some(target) = target {
        if copy == Some(false) || !(target.is_host() || target.is_cuda()) {
            return Err(PyBufferError::new_err(format!(
                "unsupported device requested: the memory is on {}, not on {target}",
                tensor.device()
            )));
        }
        return enclosed(py, target.receive(py, tensor.share())?, versioned, stream);
    }
    let kind = StrideClass::of(tensor);
    if copy == Some(true) || (kind == StrideClass::Reversed && copy.is_none()) {
        return enclosed(py, copies::clone(py, tensor)?, versioned, stream);
    }
    match kind {
        StrideClass::Ordinary if versioned && stream.is_none() => {
            capsule::enclose(py, tensor.share_dlpack())
        }
        StrideClass::Ordinary => enclosed(py, tensor.share(), versioned, stream),
        StrideClass::Broadcast => enclosed(py, read_only(tensor), versioned, stream),
        StrideClass::Reversed => Err(reversed(tensor)),
    }
}

/// What there is to mind about a layout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum StrideClass {
    Ordinary,
    /// Several indices reach one element: a consumer that writes would write all of them.
    Broadcast,
    /// Some strides are negative, which PyTorch does not survive.
    Reversed,
}

impl StrideClass {
    #[inline]
    pub(crate) fn of(tensor: &Tensor) -> Self {
        let mut kind = Self::Ordinary;
        for (&size, &stride) in tensor.shape().iter().zip(tensor.strides()) {
            if size > 1 && stride <= 0 {
                kind = if stride < 0 { return Self::Reversed } else { Self::Broadcast };
            }
        }
        kind
    }
}

/// The error for layouts that some consumers do not survive.
#[cold]
pub(crate) fn reversed(tensor: &Tensor) -> PyErr {
    PyBufferError::new_err(format!(
        "strides {} are negative, which PyTorch does not survive: leave copy out for a copy, or share the memory \
         through Tensor.numpy() or the buffer protocol",
        tuple(tensor.strides())
    ))
}

/// Whether the memory may not be written, as every export says.
pub(crate) fn is_read_only(tensor: &Tensor) -> bool {
    tensor.dlpack_flags() & DLPACK_FLAG_BITMASK_READ_ONLY as u64 != 0
}

/// The same memory, not to be written.
pub(crate) fn read_only(tensor: &Tensor) -> Tensor {
    if is_read_only(tensor) {
        return tensor.share();
    }
    // SAFETY: the tensor's own memory, which it keeps.
    unsafe { tensor.share_as_unchecked(tensor.descriptor().clone(), false, tensor.share()) }
}

#[inline]
fn wants_versioned(max_version: &Bound<'_, PyAny>) -> PyResult<bool> {
    let wrong = || PyTypeError::new_err("max_version is None or a tuple of two integers");
    let version = max_version.cast::<PyTuple>().map_err(|_| wrong())?;
    if version.len() != 2 {
        return Err(wrong());
    }
    let major = version.get_borrowed_item(0)?;
    let minor = version.get_borrowed_item(1)?;
    let (Ok(major), Ok(_)) = (major.cast::<PyInt>(), minor.cast::<PyInt>()) else {
        return Err(wrong());
    };
    let mut overflow = 0;
    // SAFETY: an int, and room for a number. Of an int beyond all bounds it says in which direction.
    let major = unsafe { ffi::PyLong_AsLongAndOverflow(major.as_ptr(), &mut overflow) };
    Ok(overflow > 0 || major >= 1)
}

/// A capsule of either kind around the tensor, for work on a stream: without one, on the default stream.
#[inline]
fn enclosed<'py>(
    py: Python<'py>,
    tensor: Tensor,
    versioned: bool,
    stream: Option<Stream>,
) -> PyResult<Bound<'py, PyAny>> {
    let tensor = match stream {
        Some(stream) => tensor.with_stream(&stream).map_err(buffer_error)?,
        None => tensor,
    };
    if versioned {
        return capsule::enclose(py, tensor.into_dlpack());
    }
    match tensor.into_dlpack_legacy() {
        Ok(exported) => capsule::enclose(py, exported),
        Err(rejected) => Err(match rejected.into_error() {
            Error::ReadOnly { .. } => PyBufferError::new_err(
                "Cannot export readonly array since signalling readonly is unsupported by DLPack before 1.0, which the \
                 consumer asks for: give it tensor.clone(), or have it ask with max_version=(1, 0)",
            ),
            error => buffer_error(error),
        }),
    }
}
