//! The methods of `Tensor` that describe it.

#![forbid(unsafe_code)]

use dlbridge::{Device, Tensor};
use pyo3::exceptions::{PyAttributeError, PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

/// `Tensor.stride`.
pub(crate) fn stride<'py>(
    py: Python<'py>,
    tensor: &Tensor,
    dim: Option<isize>,
) -> PyResult<Bound<'py, PyAny>> {
    let strides = tensor.strides();
    let Some(dim) = dim else { return Ok(PyTuple::new(py, strides)?.into_any()) };
    let rank = isize::try_from(strides.len()).unwrap_or(isize::MAX);
    let index = usize::try_from(if dim < 0 { dim + rank } else { dim }).ok();
    let stride = index.and_then(|index| strides.get(index)).ok_or_else(|| {
        PyIndexError::new_err(format!("dimension {dim} is out of range: the tensor has {rank}"))
    })?;
    Ok(stride.into_pyobject(py)?.into_any())
}

/// `Tensor.__dlpack_device__`.
pub(crate) fn dlpack_device<'py>(
    py: Python<'py>,
    tensor: &Tensor,
) -> PyResult<Bound<'py, PyTuple>> {
    static HOST: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
    let pair = |device: Device| (device.device_type, device.index).into_pyobject(py);
    if tensor.device() != Device::CPU {
        return pair(tensor.device());
    }
    HOST.get_or_try_init(py, || pair(Device::CPU).map(Bound::unbind))
        .map(|host| host.bind(py).clone())
}

/// The error for `Tensor.size`, of which other libraries have different meanings.
#[cold]
pub(crate) fn no_size() -> PyErr {
    PyAttributeError::new_err(
        "'dlbridge.Tensor' object has no attribute 'size': use numel() or shape, or pass torch() \
         or numpy(), which share the memory",
    )
}

/// The error for `tensor[index]`.
#[cold]
pub(crate) fn no_indexing() -> PyErr {
    PyTypeError::new_err(
        "'dlbridge.Tensor' object is not subscriptable: index numpy() or torch(), which share its \
         memory",
    )
}
