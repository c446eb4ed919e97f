//! The errors of functions that copy, where those of `dlbridge.from_dlpack` would not fit.

#![forbid(unsafe_code)]

use pyo3::exceptions::{PyAttributeError, PyBufferError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyComplex, PyFloat, PyInt, PyList, PyTuple};

use super::torch_checks::Purpose;
use super::{numpy, torch};
use crate::known_types::{NDARRAY, NUMPY_NUMBER, TORCH_TENSOR};

/// The error for an object that cannot be copied from, of which the import raised `error`.
#[cold]
pub(super) fn source_error(object: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    fitting_error(object, &error, Purpose::CopyFrom).unwrap_or(error)
}

/// The error for an object that cannot be an argument, of which the import raised `error`.
#[cold]
pub(super) fn argument_error(object: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let is_missing = error.is_instance_of::<PyAttributeError>(object.py())
        && !object.hasattr(intern!(object.py(), "__dlpack__")).unwrap_or(true);
    if is_missing { no_array_error(object, Purpose::Share) } else { error }
}

/// The error for an object that cannot be written for `purpose`, of which the import raised
/// `error`.
#[cold]
pub(super) fn target_error(object: &Bound<'_, PyAny>, error: PyErr, purpose: Purpose) -> PyErr {
    if NUMPY_NUMBER.is_type_of(object) {
        return PyValueError::new_err("a NumPy scalar cannot be written: pass an array");
    }
    if NDARRAY.is_exact_type_of(object) && error.is_instance_of::<PyBufferError>(object.py()) {
        return numpy::share(object).map_or_else(numpy::Refused::into_write_error, |_| error);
    }
    fitting_error(object, &error, purpose).unwrap_or(error)
}

/// The error that replaces `error`; `None` if `error` itself fits.
fn fitting_error(object: &Bound<'_, PyAny>, error: &PyErr, purpose: Purpose) -> Option<PyErr> {
    let py = object.py();
    if error.is_instance_of::<PyAttributeError>(py) {
        let is_producer = object.hasattr(intern!(py, "__dlpack__")).unwrap_or(true);
        return (!is_producer).then(|| no_array_error(object, purpose));
    }
    if !TORCH_TENSOR.is_type_of(object) {
        return None;
    }
    let refusal = torch::refusal(object).ok().flatten()?;
    // A derived class may have raised an error of its own.
    let is_refusal = error.value(py).to_string() == refusal.text(Purpose::Share);
    is_refusal.then(|| refusal.error(purpose))
}

/// The error for an object that is no array.
fn no_array_error(object: &Bound<'_, PyAny>, purpose: Purpose) -> PyErr {
    if object.is_none() {
        return PyTypeError::new_err("expected an array of any library, got None");
    }
    let class = object.get_type().fully_qualified_name();
    let class = class.map(|name| name.to_string()).unwrap_or_default();
    let is_number = object.is_instance_of::<PyBool>()
        || object.is_instance_of::<PyInt>()
        || object.is_instance_of::<PyFloat>()
        || object.is_instance_of::<PyComplex>();
    let is_sequence = object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>();
    let remedy = if purpose.writes() {
        ""
    } else if object.hasattr(intern!(object.py(), "__array__")).unwrap_or(false) {
        ": use numpy.asarray()"
    } else if is_number || is_sequence {
        ": numpy.array() makes one"
    } else {
        ""
    };
    PyTypeError::new_err(format!("expected an array of any library, got '{class}'{remedy}"))
}
