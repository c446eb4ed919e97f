//! `__dlpack__`: export with the stream, version, device and copy that a consumer passes.

use dlbridge::{Device, Tensor};
use pyo3::Borrowed;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

use crate::clone::clone;
use crate::copy_flag::parse_copy;
use crate::device;
use crate::export::capsule;
use crate::export_policy::{StrideClass, needs_copy, negative_strides, share_read_only};
use crate::stream::parse_stream;
use crate::target_device::TargetDevice;
use crate::torch_owner::check_owner_address;
use crate::transfer;

/// The arguments that a consumer passes to `__dlpack__`; `None` where it passes none, or None.
pub(crate) struct ExportArgs<'a, 'py> {
    pub(crate) stream: Option<Borrowed<'a, 'py, PyAny>>,
    pub(crate) max_version: Option<Borrowed<'a, 'py, PyAny>>,
    pub(crate) dl_device: Option<Borrowed<'a, 'py, PyAny>>,
    pub(crate) copy: Option<Borrowed<'a, 'py, PyAny>>,
}

/// Makes the capsule that `__dlpack__` returns.
#[inline]
pub(crate) fn to_capsule<'py>(
    py: Python<'py>,
    tensor: &Tensor,
    args: &ExportArgs<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let versioned = args.max_version.map_or(Ok(false), |version| wants_versioned(&version))?;
    let copy = args.copy.map(|copy| parse_copy(&copy)).transpose()?;
    let target = match args.dl_device {
        Some(device) => Some(TargetDevice::from_device(device::from_pair(&device)?)),
        None => None,
    };
    let elsewhere = target.filter(|target| !target.includes(tensor.device()));
    // The stream belongs to the device on which the consumer gets the memory.
    let device = elsewhere.map_or(tensor.device(), TargetDevice::device);
    let stream = match args.stream {
        Some(stream) => parse_stream(device, &stream)?,
        None => None,
    };
    if let Some(target) = elsewhere {
        if copy == Some(false) || !(target.is_host() || target.is_cuda()) {
            return Err(unsupported_target(tensor.device(), target));
        }
        let moved = transfer::to_target(py, tensor.share(), target)?;
        return capsule::export(py, moved, versioned, stream);
    }
    // The check comes after the arguments were read, because reading them may run Python code that
    // moves the memory.
    check_owner_address(py, tensor)?;
    let strides = StrideClass::of(tensor);
    if needs_copy(tensor, strides, copy)? {
        return capsule::export(py, clone(py, tensor)?, versioned, stream);
    }
    match strides {
        StrideClass::Positive if versioned && stream.is_none() => {
            capsule::enclose(py, tensor.share_dlpack())
        }
        StrideClass::Positive => capsule::export(py, tensor.share(), versioned, stream),
        StrideClass::Broadcast => capsule::export(py, share_read_only(tensor), versioned, stream),
        StrideClass::Negative => Err(negative_strides(tensor)),
    }
}

#[cold]
fn unsupported_target(device: Device, target: TargetDevice) -> PyErr {
    PyBufferError::new_err(format!(
        "unsupported device requested: the memory is on {device}, not on {target}"
    ))
}

/// Whether the consumer takes a versioned struct: `max_version` is (1, 0) or higher.
#[inline]
fn wants_versioned(max_version: &Bound<'_, PyAny>) -> PyResult<bool> {
    let wrong = || PyTypeError::new_err("max_version must be None or a tuple of two integers");
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
    // SAFETY: the object must be an int, as the cast checked, and the address writable, as that of
    // `overflow` is, which becomes 1 or -1 for an int that is too large or too small.
    let major = unsafe { ffi::PyLong_AsLongAndOverflow(major.as_ptr(), &mut overflow) };
    Ok(overflow > 0 || major >= 1)
}
