//! Exports a tensor as `__cuda_array_interface__`, version 3.
//! <https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html>

#![forbid(unsafe_code)]

use dlbridge::{Device, Stream, Tensor};
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::array_interface::describe_at;
use crate::error::buffer_error;
use crate::export_policy::StrideClass;
use crate::torch_owner::check_owner_address;

/// The dictionary that describes a tensor on a CUDA device.
pub(crate) fn describe<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyDict>> {
    let device = tensor.device();
    if device != Device::cuda(device.index) {
        let message = format!(
            "memory on {device} has no __cuda_array_interface__: cuda() copies it to a CUDA device"
        );
        return Err(PyAttributeError::new_err(message));
    }
    check_owner_address(py, tensor)?;
    // A broadcast tensor is read-only, as in other exports: one write would change several
    // elements.
    let read_only =
        tensor.is_shared_read_only() || StrideClass::of(tensor) == StrideClass::Broadcast;
    // A tensor without elements has no address.
    let address = if tensor.is_empty() { 0 } else { tensor.data_ptr().addr() };
    let interface = describe_at(py, tensor, address, read_only)?;
    let default = Stream::legacy_default(device).map_err(buffer_error)?;
    tensor.record_stream(&default).map_err(buffer_error)?;
    interface.set_item("stream", default.as_raw())?;
    Ok(interface)
}
