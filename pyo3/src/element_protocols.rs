//! The protocols that treat a tensor as a number or as a sequence.

#![forbid(unsafe_code)]

use dlbridge::Tensor;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyIterator, PyString, PyType};

use crate::error::tuple;
use crate::export::{list, text};
use crate::torch_owner::check_owner_address;

/// `bool(tensor)`.
pub(crate) fn truth(py: Python<'_>, tensor: &Tensor) -> PyResult<bool> {
    if tensor.len() != 1 {
        return Err(PyValueError::new_err(format!(
            "the truth value of a tensor of {} elements is ambiguous: use numpy()",
            tensor.len()
        )));
    }
    list::item(py, tensor)?.is_truthy()
}

/// `len(tensor)`.
pub(crate) fn length(tensor: &Tensor) -> PyResult<usize> {
    let size = tensor.shape().first().and_then(|&size| usize::try_from(size).ok());
    size.ok_or_else(|| PyTypeError::new_err("a tensor of 0 dimensions has no length: use item()"))
}

/// `iter(tensor)`.
pub(crate) fn iterate<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyIterator>> {
    if tensor.ndim() == 0 {
        return Err(PyTypeError::new_err(
            "can't iterate over a tensor of 0 dimensions: use item()",
        ));
    }
    list::to_list(py, tensor)?.try_iter()
}

/// The only element as a number of `class`: `int(tensor)` and others.
pub(crate) fn as_number<'py>(
    tensor: &Tensor,
    class: &Bound<'py, PyType>,
) -> PyResult<Bound<'py, PyAny>> {
    class.call1((list::item(class.py(), tensor)?,))
}

/// `operator.index(tensor)`.
pub(crate) fn index<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    match list::item(py, tensor) {
        Ok(number) if number.is_exact_instance_of::<PyInt>() && tensor.ndim() == 0 => Ok(number),
        _ => Err(PyTypeError::new_err("only an integer tensor without dimensions can be an index")),
    }
}

/// `format(tensor, spec)` with a `spec` that is not empty.
pub(crate) fn format<'py>(
    tensor: &Tensor,
    spec: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    if tensor.len() != 1 {
        return Err(PyTypeError::new_err(format!(
            "the format '{}' needs one element, and the tensor has {}: use '{{}}', or format the \
             numbers of tolist()",
            spec.to_string_lossy(),
            tensor.len()
        )));
    }
    list::item(spec.py(), tensor)?.call_method1("__format__", (spec,))
}

/// `repr(tensor)`, where `class` is the name of the tensor's class.
pub(crate) fn repr(py: Python<'_>, tensor: &Tensor, class: &str) -> String {
    let start = format!("{class}(");
    let elements = check_owner_address(py, tensor).ok();
    let elements = elements.and_then(|()| text::elements(tensor, start.len()));
    let elements = elements.unwrap_or_else(|| "...".to_owned());
    let mut repr = format!("{start}{elements}");
    if elements == "..." || tensor.is_empty() {
        repr += &format!(", shape={}", tuple(tensor.shape()));
    }
    repr += &format!(", dtype={}, device={}", tensor.dtype(), tensor.device());
    repr + if tensor.is_shared_read_only() { ", readonly)" } else { ")" }
}
