//! The methods of `Tensor` that copy it.

#![forbid(unsafe_code)]

use dlbridge::MemoryFormat;
use pyo3::prelude::*;

use crate::clone::{clone, clone_as};
use crate::memory_format::{has_memory_format, parse_memory_format, parse_order};
use crate::target_device::TargetDevice;
use crate::tensor_object::TensorObject;
use crate::transfer;

/// `Tensor.clone`.
pub(crate) fn cloned(
    py: Python<'_>,
    tensor: &TensorObject,
    memory_format: Option<&Bound<'_, PyAny>>,
) -> PyResult<TensorObject> {
    let tensor = tensor.tensor();
    let format = match memory_format {
        Some(format) => parse_memory_format(tensor, format)?,
        None => MemoryFormat::Preserve,
    };
    clone_as(py, tensor, format).map(TensorObject::new)
}

/// `Tensor.contiguous`.
pub(crate) fn contiguous<'py>(
    object: &Bound<'py, TensorObject>,
    memory_format: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, TensorObject>> {
    let tensor = object.get().tensor();
    let format = match memory_format {
        Some(format) => parse_order(tensor, format)?,
        None => MemoryFormat::Contiguous,
    };
    if has_memory_format(tensor, format)? {
        return Ok(object.clone());
    }
    TensorObject::new(clone_as(object.py(), tensor, format)?).into_bound(object.py())
}

/// `Tensor.to`.
pub(crate) fn to_device<'py>(
    object: &Bound<'py, TensorObject>,
    device: &Bound<'py, PyAny>,
    copy: bool,
) -> PyResult<Bound<'py, TensorObject>> {
    let moved = transfer::moved(object, TargetDevice::parse(device, "to()")?)?;
    if !copy || !moved.is(object) {
        return Ok(moved);
    }
    TensorObject::new(clone(object.py(), object.get().tensor())?).into_bound(object.py())
}

/// `Tensor.pin_memory`.
pub(crate) fn pinned<'py>(object: &Bound<'py, TensorObject>) -> PyResult<Bound<'py, TensorObject>> {
    let tensor = object.get().tensor();
    if tensor.is_pinned() {
        return Ok(object.clone());
    }
    TensorObject::new(transfer::to_pinned(object.py(), tensor)?).into_bound(object.py())
}
