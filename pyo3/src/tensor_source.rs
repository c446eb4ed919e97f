//! Where the C functions of a class get the tensor of an object.

#![forbid(unsafe_code)]

use dlbridge::Tensor;
use pyo3::Borrowed;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::tensor_object::TensorObject;

/// A class whose objects export tensors.
pub(crate) trait TensorSource: 'static {
    /// True if the tensor lives as long as the object, so that it may be borrowed from the object.
    const OWNS: bool;

    /// Calls `work` with the tensor of `object`. Raises TypeError for an object of another class.
    fn with_tensor<R>(
        object: Borrowed<'_, '_, PyAny>,
        work: impl FnOnce(&Tensor) -> PyResult<R>,
    ) -> PyResult<R>;
}

impl TensorSource for TensorObject {
    const OWNS: bool = true;

    #[inline]
    fn with_tensor<R>(
        object: Borrowed<'_, '_, PyAny>,
        work: impl FnOnce(&Tensor) -> PyResult<R>,
    ) -> PyResult<R> {
        let tensor = object.cast::<Self>().map_err(|_| wrong_class("dlbridge.Tensor", &object))?;
        work(tensor.get().tensor())
    }
}

/// The error for an object that is not of the class `expected`.
#[cold]
pub(crate) fn wrong_class(expected: &str, object: &Bound<'_, PyAny>) -> PyErr {
    let class = object.get_type().fully_qualified_name();
    PyTypeError::new_err(format!(
        "the exchange table of {expected} takes a {expected}, got '{}'",
        class.map(|class| class.to_string()).unwrap_or_default()
    ))
}
