//! Exports a tensor as a JAX array.

#![forbid(unsafe_code)]

use pyo3::exceptions::PyBufferError;
use pyo3::intern;
use pyo3::prelude::*;

use super::numpy::to_numpy;
use crate::tensor_object::TensorObject;

/// `Tensor.__jax_array__`.
pub(crate) fn to_jax<'py>(tensor: &Bound<'py, TensorObject>) -> PyResult<Bound<'py, PyAny>> {
    let py = tensor.py();
    let jax = py.import(intern!(py, "jax.numpy"))?;
    // JAX before 0.12 can't be told that memory is read-only.
    match jax.call_method1(intern!(py, "from_dlpack"), (tensor,)) {
        Err(error)
            if error.is_instance_of::<PyBufferError>(py)
                && tensor.get().tensor().is_shared_read_only() =>
        {
            jax.call_method1(intern!(py, "asarray"), (to_numpy(tensor)?,))
        }
        shared => shared,
    }
}
