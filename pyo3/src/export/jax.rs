//! Exports a tensor as a JAX array.

#![forbid(unsafe_code)]

use pyo3::exceptions::{PyBufferError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;

use super::numpy;
use crate::tensor_object::TensorObject;

/// Makes an array that shares the memory of `tensor` if JAX can use it, and has a copy otherwise.
pub(crate) fn to_jax<'py>(tensor: &Bound<'py, TensorObject>) -> PyResult<Bound<'py, PyAny>> {
    let py = tensor.py();
    let jax = py.import(intern!(py, "jax.numpy"))?;
    match jax.call_method1(intern!(py, "from_dlpack"), (tensor,)) {
        // JAX has dense arrays only, and before 0.12 it could not be told that memory is
        // read-only. It copies a NumPy array.
        Err(error)
            if tensor.get().tensor().device().is_host()
                && (error.is_instance_of::<PyBufferError>(py)
                    || error.is_instance_of::<PyRuntimeError>(py)) =>
        {
            jax.call_method1(intern!(py, "asarray"), (numpy::to_numpy(tensor)?,))
        }
        shared => shared,
    }
}
