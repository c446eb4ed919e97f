//! Import through `__dlpack__`, as DLPack 1 or earlier versions define it.

#![forbid(unsafe_code)]

use dlbridge::ffi::{DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
use dlbridge::{Device, Tensor};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::capsule;
use crate::device;
use crate::error::caused_by;
use crate::stream::default_stream;
use crate::target_device::TargetDevice;

/// The device and the copy that the caller of `from_dlpack` passed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Request {
    pub(crate) target: Option<TargetDevice>,
    pub(crate) copy: Option<bool>,
}

/// Shares the memory of an object that has `__dlpack__`.
pub(super) fn share(object: &Bound<'_, PyAny>, request: Request) -> PyResult<Tensor> {
    let py = object.py();
    // The first version of the protocol has no `__dlpack_device__`.
    let stated = match object.getattr_opt(intern!(py, "__dlpack_device__"))? {
        Some(query) => match query.call0() {
            Ok(pair) => Some(device::from_pair(&pair)?),
            Err(error) => return Err(better_error(object, error)),
        },
        None => None,
    };
    let other_device = stated.filter(|stated| !stated.is_host());
    let to_host = other_device.is_some() && request.target.is_some_and(TargetDevice::is_host);
    let options = PyDict::new(py);
    if to_host {
        options.set_item(intern!(py, "dl_device"), (Device::CPU.device_type, Device::CPU.index))?;
    }
    // dlbridge itself copies host memory, so that it need not trust the producer's copy.
    if request.copy == Some(false) || (request.copy == Some(true) && other_device.is_some()) {
        options.set_item(intern!(py, "copy"), request.copy)?;
    }
    // A copy to the host is complete when the producer returns it, so it needs no stream.
    let stream = other_device.filter(|_| !to_host).and_then(default_stream);
    let tensor = capsule::consume(&call_dlpack(object, &options, stream)?)?;
    let found = tensor.device();
    match stated {
        // A producer may report pinned memory as plain host memory, and plain as pinned.
        Some(stated) if found != stated && !(found.is_host() && (stated.is_host() || to_host)) => {
            Err(PyBufferError::new_err(format!(
                "the producer's __dlpack_device__ says {stated}, and its memory is on {found}"
            )))
        }
        _ => Ok(tensor),
    }
}

/// The exception for an object whose `__dlpack_device__` raised `error`: the one that its
/// `__dlpack__` raises, if it raises one. For a deleted JAX array, only the exception of
/// `__dlpack__` says that the array was deleted.
#[cold]
fn better_error(object: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = object.py();
    match call_dlpack(object, &PyDict::new(py), None) {
        // The capsule releases the struct.
        Ok(_) => error,
        Err(better) => caused_by(py, better, error),
    }
}

/// Calls `__dlpack__` with the arguments of DLPack 1, and, if the producer does not take these,
/// with those of the version before.
fn call_dlpack<'py>(
    object: &Bound<'py, PyAny>,
    options: &Bound<'py, PyDict>,
    stream: Option<i64>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let method = object.getattr(intern!(py, "__dlpack__"))?;
    let versioned = options.copy()?;
    if let Some(stream) = stream {
        versioned.set_item(intern!(py, "stream"), stream)?;
    }
    let version = (DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION);
    versioned.set_item(intern!(py, "max_version"), version)?;
    let first = match method.call((), Some(&versioned)) {
        Err(error) if is_about_arguments(py, &error, &versioned) => error,
        answer => return answer,
    };
    if !options.is_empty() {
        // The earlier protocol has no such arguments, so the producer could not respect them.
        let error = PyValueError::new_err(format!(
            "the producer's __dlpack__ does not take {}: leave copy and device out",
            options.keys()
        ));
        return Err(caused_by(py, error, first));
    }
    let legacy = PyDict::new(py);
    if let Some(stream) = stream {
        legacy.set_item(intern!(py, "stream"), stream)?;
    }
    method.call((), Some(&legacy)).map_err(|second| {
        if second.is_instance_of::<PyTypeError>(py) { caused_by(py, second, first) } else { second }
    })
}

/// Whether a function raised `error` because it does not take the keywords `passed`. Any other
/// error is the producer's own, for example a `TypeError` about its elements, and a second call
/// would hide it.
#[cold]
fn is_about_arguments(py: Python<'_>, error: &PyErr, passed: &Bound<'_, PyDict>) -> bool {
    // Messages of CPython, Cython, PyO3, pybind11, nanobind and Boost.Python.
    const WORDS: [&str; 2] = ["argument", "keyword"];
    let text = error.value(py).to_string();
    let mentions = |(name, _): (Bound<'_, PyAny>, _)| text.contains(&name.to_string());
    error.is_instance_of::<PyTypeError>(py)
        && (WORDS.iter().any(|word| text.contains(word)) || passed.iter().any(mentions))
}
