//! `__dlpack__`: asking for it, old and new.

use dlbridge::ffi::{DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
use dlbridge::{Device, Tensor};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::capsule;
use crate::device::{self, TargetDevice};
use crate::error::caused_by;

/// What a caller of `from_dlpack` wants of the producer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Request {
    pub(crate) target: Option<TargetDevice>,
    pub(crate) copy: Option<bool>,
}

/// Shares the memory of an object that has `__dlpack__`.
pub(super) fn share(object: &Bound<'_, PyAny>, request: Request) -> PyResult<Tensor> {
    let py = object.py();
    let home = match object.getattr_opt(intern!(py, "__dlpack_device__"))? {
        Some(query) => Some(device::from_pair(&query.call0()?)?),
        None => None, // producers of the first protocol
    };
    let away = home.filter(|home| !home.is_host());
    let fetched = away.is_some() && request.target.is_some_and(TargetDevice::is_host);
    let wants = PyDict::new(py);
    if fetched {
        wants.set_item(intern!(py, "dl_device"), (Device::CPU.device_type, Device::CPU.index))?;
    }
    // A copy on the host is ours to make: faster, and without trust.
    if request.copy == Some(false) || (request.copy == Some(true) && away.is_some()) {
        wants.set_item(intern!(py, "copy"), request.copy)?;
    }
    // What is fetched to the host is complete when it arrives.
    let stream = away.filter(|_| !fetched).and_then(device::default_stream);
    let tensor = capsule::take(&ask(object, &wants, stream)?)?;
    let found = tensor.device();
    match home {
        // Pinned memory may be called plain host memory, and the other way round.
        Some(home) if found != home && !(found.is_host() && (home.is_host() || fetched)) => Err(
            PyBufferError::new_err(format!("the producer said {home} and gave memory on {found}")),
        ),
        _ => Ok(tensor),
    }
}

/// Calls `__dlpack__` as DLPack 1 has it, and again as it was before if the producer does not take that.
fn ask<'py>(
    object: &Bound<'py, PyAny>,
    wants: &Bound<'py, PyDict>,
    stream: Option<i64>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let method = object.getattr(intern!(py, "__dlpack__"))?;
    let options = wants.copy()?;
    if let Some(stream) = stream {
        options.set_item(intern!(py, "stream"), stream)?;
    }
    options.set_item(intern!(py, "max_version"), (DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION))?;
    let first = match method.call((), Some(&options)) {
        Err(error) if error.is_instance_of::<PyTypeError>(py) => error,
        answer => return answer,
    };
    if !wants.is_empty() {
        // The first protocol has no word for it, and may do otherwise.
        let error = PyValueError::new_err(format!(
            "the producer's __dlpack__ does not take {}: leave copy and device out",
            wants.keys()
        ));
        return Err(caused_by(py, error, first));
    }
    let old = PyDict::new(py);
    if let Some(stream) = stream {
        old.set_item(intern!(py, "stream"), stream)?;
    }
    method.call((), Some(&old)).map_err(|second| match second.is_instance_of::<PyTypeError>(py) {
        true => caused_by(py, second, first),
        false => second,
    })
}
