//! Exports a tensor as `__cuda_array_interface__`, version 3.
//! <https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html>

#![forbid(unsafe_code)]

use dlbridge::{DType, Device, Stream, Tensor};
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::error::buffer_error;
use crate::export_policy::StrideClass;

/// The dictionary that describes a tensor on a CUDA device.
pub(crate) fn describe<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyDict>> {
    let device = tensor.device();
    if device != Device::cuda(device.index) {
        let message = format!(
            "memory on {device} has no __cuda_array_interface__: cuda() copies it to a CUDA device"
        );
        return Err(PyAttributeError::new_err(message));
    }
    let (Some(typestr), Some(itemsize)) = (typestr(tensor.dtype()), tensor.dtype().itemsize())
    else {
        let message =
            format!("the CUDA array interface has no elements of type {}", tensor.dtype());
        return Err(PyAttributeError::new_err(message));
    };
    let default = Stream::legacy_default(device).map_err(buffer_error)?;
    tensor.record_stream(&default).map_err(buffer_error)?;
    // A broadcast tensor is read-only, as in other exports: one write would change several
    // elements.
    let read_only = tensor.is_shared_read_only()
        || (StrideClass::of(tensor) == StrideClass::Broadcast && !tensor.is_empty());
    let interface = PyDict::new(py);
    let address = if tensor.is_empty() { 0 } else { tensor.data_ptr().addr() };
    let itemsize = i64::try_from(itemsize).unwrap_or(i64::MAX);
    let strides = match tensor.is_contiguous() {
        true => None,
        false => Some(PyTuple::new(
            py,
            tensor.strides().iter().map(|stride| stride.saturating_mul(itemsize)),
        )?),
    };
    interface.set_item("shape", PyTuple::new(py, tensor.shape())?)?;
    interface.set_item("typestr", typestr)?;
    interface.set_item("data", (address, read_only))?;
    interface.set_item("strides", strides)?;
    interface.set_item("stream", default.as_raw())?;
    interface.set_item("version", 3)?;
    Ok(interface)
}

/// The element type as the interface names it, for example `<f4`.
fn typestr(dtype: DType) -> Option<String> {
    let kind = match (dtype.code, dtype.lanes) {
        (0, 1) => 'i',
        (1, 1) => 'u',
        (2, 1) => 'f',
        (5, 1) => 'c',
        (6, 1) => 'b',
        _ => return None,
    };
    let bytes = dtype.itemsize().filter(|_| dtype.bits >= 8)?;
    let order = match (bytes, cfg!(target_endian = "little")) {
        (1, _) => '|',
        (_, true) => '<',
        (_, false) => '>',
    };
    Some(format!("{order}{kind}{bytes}"))
}
