//! The argument `memory_format=` of copies.

#![forbid(unsafe_code)]

use dlbridge::{MemoryFormat, Tensor};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::buffer_error;

/// Reads `memory_format=`: the name of one of PyTorch's memory formats, or PyTorch's object, for a
/// copy of `tensor`.
pub(crate) fn parse_memory_format(
    tensor: &Tensor,
    format: &Bound<'_, PyAny>,
) -> PyResult<MemoryFormat> {
    let name = format.str()?;
    let name = name.to_str()?.trim_start_matches("torch.");
    let (format, rank) = match name {
        "preserve_format" => (MemoryFormat::Preserve, None),
        "contiguous_format" => (MemoryFormat::Contiguous, None),
        "channels_last" => (MemoryFormat::ChannelsLast, Some(4)),
        "channels_last_3d" => (MemoryFormat::ChannelsLast3d, Some(5)),
        _ => {
            return Err(PyValueError::new_err(format!(
                "memory format '{name}' is not supported: expected 'preserve_format', \
                 'contiguous_format', 'channels_last' or 'channels_last_3d'"
            )));
        }
    };
    match rank {
        Some(rank) if rank != tensor.ndim() => Err(PyValueError::new_err(format!(
            "'{name}' is for {rank} dimensions, and the tensor has {}",
            tensor.ndim()
        ))),
        _ => Ok(format),
    }
}

/// Reads `memory_format=` of `contiguous`, which needs an order.
pub(crate) fn parse_order(tensor: &Tensor, format: &Bound<'_, PyAny>) -> PyResult<MemoryFormat> {
    match parse_memory_format(tensor, format)? {
        MemoryFormat::Preserve => {
            Err(PyValueError::new_err("contiguous() does not take 'preserve_format': use clone()"))
        }
        format => Ok(format),
    }
}

/// Whether the elements lie one after the other in the order of `format`.
pub(crate) fn has_memory_format(tensor: &Tensor, format: MemoryFormat) -> PyResult<bool> {
    if format == MemoryFormat::Contiguous || tensor.is_empty() {
        return Ok(tensor.is_contiguous()); // without elements, every tensor is
    }
    let wanted = tensor.layout().cloned(format).map_err(buffer_error)?;
    let dims = tensor.shape().iter().zip(tensor.strides()).zip(wanted.strides());
    Ok(dims.into_iter().all(|((&size, stride), wanted)| size == 1 || stride == wanted))
}
