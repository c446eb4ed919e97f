//! `__dlpack__`: asks a producer for a capsule, by DLPack 1 or by the protocol before it.

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

/// What the caller of `from_dlpack` asks of the producer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Request {
    pub(crate) target: Option<TargetDevice>,
    pub(crate) copy: Option<bool>,
}

/// Shares the memory of an object that has `__dlpack__`.
pub(super) fn share(object: &Bound<'_, PyAny>, request: Request) -> PyResult<Tensor> {
    let py = object.py();
    // Producers of the first protocol have no `__dlpack_device__`.
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
    // Copies of host memory are made by dlbridge: they are faster, and need no trust in a producer.
    if request.copy == Some(false) || (request.copy == Some(true) && other_device.is_some()) {
        options.set_item(intern!(py, "copy"), request.copy)?;
    }
    // A copy to the host is complete when the producer returns it, so it needs no stream.
    let stream = other_device.filter(|_| !to_host).and_then(default_stream);
    let tensor = capsule::consume(&call_dlpack(object, &options, stream)?)?;
    let found = tensor.device();
    match stated {
        // A producer may state pinned memory as plain host memory, and the other way round.
        Some(stated) if found != stated && !(found.is_host() && (stated.is_host() || to_host)) => {
            Err(PyBufferError::new_err(format!(
                "the producer said {stated} and gave memory on {found}"
            )))
        }
        _ => Ok(tensor),
    }
}

/// What is wrong with an object whose `__dlpack_device__` raised `error`: what its `__dlpack__`
/// raises, which knows more of it. A deleted array of JAX has no device, and only its `__dlpack__`
/// says that it was deleted.
#[cold]
fn better_error(object: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = object.py();
    match call_dlpack(object, &PyDict::new(py), None) {
        // The capsule releases the struct.
        Ok(_) => error,
        Err(better) => caused_by(py, better, error),
    }
}

/// Calls `__dlpack__` as DLPack 1 defines it, and, if the producer does not take these arguments,
/// as it was defined before.
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
        // The first protocol has no such arguments, so that the producer might do otherwise.
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

/// Whether a function raised `error` because it does not take the keywords `passed`. Any other error
/// is the producer's own, for example a `TypeError` about its elements, and asking again would mask
/// it.
#[cold]
fn is_about_arguments(py: Python<'_>, error: &PyErr, passed: &Bound<'_, PyDict>) -> bool {
    // The words of CPython, Cython, PyO3, pybind11, nanobind and Boost.Python.
    const WORDS: [&str; 2] = ["argument", "keyword"];
    let text = error.value(py).to_string();
    let mentions = |(name, _): (Bound<'_, PyAny>, _)| text.contains(&name.to_string());
    error.is_instance_of::<PyTypeError>(py)
        && (WORDS.iter().any(|word| text.contains(word)) || passed.iter().any(mentions))
}
