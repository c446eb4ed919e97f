//! Copies of a tensor to another device.

use dlbridge::{Descriptor, Device, Tensor};
use pyo3::exceptions::PyBufferError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::detached::detached;
use crate::device::ROCM;
use crate::error::buffer_error;
use crate::import::torch;
use crate::target_device::TargetDevice;
use crate::tensor_object::TensorObject;
use crate::torch_owner::check_owner_address;

/// The tensor itself if it is on `target`; otherwise a copy there.
pub(crate) fn moved<'py>(
    tensor: &Bound<'py, TensorObject>,
    target: TargetDevice,
) -> PyResult<Bound<'py, TensorObject>> {
    let this = tensor.get().tensor();
    if target.includes(this.device()) {
        return Ok(tensor.clone());
    }
    TensorObject::new(to_target(tensor.py(), this.share(), target)?).into_bound(tensor.py())
}

/// Copies a tensor to `target`. PyTorch makes the copies that dlbridge does not: from ROCm devices.
pub(crate) fn to_target(py: Python<'_>, tensor: Tensor, target: TargetDevice) -> PyResult<Tensor> {
    check_owner_address(py, &tensor)?;
    if tensor.device().device_type == ROCM && target.is_host() {
        return to_target_through_torch(py, tensor, target);
    }
    let device = if target.is_cuda() && target.index().is_none() {
        Device::current_cuda().map_err(buffer_error)?
    } else {
        target.device()
    };
    detached(py, [&tensor], || tensor.to_device(device)).map_err(buffer_error)
}

fn to_target_through_torch(
    py: Python<'_>,
    tensor: Tensor,
    target: TargetDevice,
) -> PyResult<Tensor> {
    let torch = py.import(intern!(py, "torch")).map_err(|_| {
        PyBufferError::new_err(format!(
            "copies from {} to {target} go through PyTorch, which can't be imported",
            tensor.device()
        ))
    })?;
    let tensor = TensorObject::new(tensor).into_bound(py)?;
    let tensor = torch.call_method1(intern!(py, "from_dlpack"), (tensor,))?;
    torch::receive(&tensor.call_method1(intern!(py, "to"), (target.to_string(),))?)
}

/// Copies a tensor into page-locked host memory.
pub(crate) fn to_pinned(py: Python<'_>, tensor: &Tensor) -> PyResult<Tensor> {
    check_owner_address(py, tensor)?;
    let on_host;
    let source = if tensor.device().is_host() {
        tensor
    } else {
        on_host = to_target(py, tensor.share(), TargetDevice::HOST)?;
        if on_host.is_pinned() {
            return Ok(on_host);
        }
        &on_host
    };
    let pinned = detached(py, [source], || source.to_device(Device::CUDA_HOST));
    let pinned = pinned.map_err(buffer_error)?;
    // The device is stated as CPU, because other libraries take pinned memory as host memory.
    let (start, layout, dtype) = (pinned.data_ptr(), pinned.layout().clone(), pinned.dtype());
    let descriptor = Descriptor::new(start, layout, dtype, Device::CPU).map_err(buffer_error)?;
    // SAFETY: the owner must keep the memory that the descriptor describes, and writable: the owner
    // is the new tensor itself. No Rust view of the memory is made in this crate.
    Ok(unsafe { Tensor::from_raw_parts(descriptor, true, pinned) })
}
