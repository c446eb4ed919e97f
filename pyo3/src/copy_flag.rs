//! The argument `copy=` of `from_dlpack` and `__dlpack__`.

#![forbid(unsafe_code)]

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;

/// Reads `copy=` where it is not None: `True` or `False`, of Python or of NumPy.
pub(crate) fn parse_copy(copy: &Bound<'_, PyAny>) -> PyResult<bool> {
    if let Ok(copy) = copy.cast::<PyBool>() {
        return Ok(copy.is_true());
    }
    let class = copy.get_type().fully_qualified_name()?;
    if matches!(class.to_str()?, "numpy.bool" | "numpy.bool_") {
        return copy.is_truthy();
    }
    Err(PyTypeError::new_err(format!("copy must be a bool or None, not '{class}'")))
}
