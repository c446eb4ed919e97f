//! NumPy's `asarray`.

#![forbid(unsafe_code)]

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::call::call_one;

/// Calls `numpy.asarray(object)`.
pub(crate) fn numpy_asarray<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static AS_ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    call_one(AS_ARRAY.import(object.py(), "numpy", "asarray")?, object)
}
