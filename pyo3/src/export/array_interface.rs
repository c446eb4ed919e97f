//! Exports a tensor as `__array_interface__`, version 3, and makes the entries that it has in
//! common with `__cuda_array_interface__`.
//! <https://numpy.org/doc/stable/reference/arrays.interface.html>

#![forbid(unsafe_code)]

use dlbridge::{DType, Tensor};
use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::dtype;
use crate::torch_owner::check_owner_address;

/// The dictionary that describes a tensor on the host.
pub(crate) fn describe<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyDict>> {
    if !tensor.device().is_host() {
        return Err(PyAttributeError::new_err(format!(
            "memory on {} has no __array_interface__: use Tensor.cpu() first",
            tensor.device()
        )));
    }
    check_owner_address(py, tensor)?;
    let address = tensor.data_ptr().addr();
    describe_at(py, tensor, address, tensor.is_shared_read_only())
}

/// The entries that both interfaces have, for elements at `address`. An AttributeError for types
/// that the interfaces cannot name, so that `hasattr` is False.
pub(super) fn describe_at<'py>(
    py: Python<'py>,
    tensor: &Tensor,
    address: usize,
    read_only: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let (Some(typestr), Some(itemsize)) = (typestr(tensor.dtype()), tensor.dtype().itemsize())
    else {
        return Err(PyAttributeError::new_err(format!(
            "array interfaces have no elements of type {}",
            tensor.dtype()
        )));
    };
    let itemsize = i64::try_from(itemsize).unwrap_or(i64::MAX);
    let in_bytes = tensor.strides().iter().map(|stride| stride.saturating_mul(itemsize));
    let strides = if tensor.is_contiguous() { None } else { Some(PyTuple::new(py, in_bytes)?) };
    let interface = PyDict::new(py);
    interface.set_item(intern!(py, "shape"), PyTuple::new(py, tensor.shape())?)?;
    interface.set_item(intern!(py, "typestr"), typestr)?;
    interface.set_item(intern!(py, "data"), (address, read_only))?;
    interface.set_item(intern!(py, "strides"), strides)?;
    interface.set_item(intern!(py, "version"), 3)?;
    Ok(interface)
}

/// The element type as the interfaces name it, for example `<f4`.
fn typestr(dtype: DType) -> Option<String> {
    // NumPy has the types that have a format in the buffer protocol.
    dtype::format(dtype)?;
    let kind = match dtype.code {
        0 => 'i',
        1 => 'u',
        2 => 'f',
        5 => 'c',
        6 => 'b',
        _ => return None,
    };
    let bytes = dtype.itemsize()?;
    let order = match (bytes, cfg!(target_endian = "little")) {
        (1, _) => '|',
        (_, true) => '<',
        (_, false) => '>',
    };
    Some(format!("{order}{kind}{bytes}"))
}
