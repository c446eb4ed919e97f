//! Import for functions that copy: they also read elements that DLPack cannot describe, through a
//! copy that NumPy makes.

#![forbid(unsafe_code)]

use dlbridge::{MemoryFormat, Tensor};
use pyo3::exceptions::PyBufferError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{base_buffer, copy_errors, numpy, share};
use crate::known_types::NDARRAY;
use crate::numpy_asarray::numpy_asarray;
use crate::release::BufferGuard;

/// The elements of an object, to be copied.
pub(crate) struct Readable<'py> {
    pub(crate) tensor: Tensor,
    /// The array of NumPy that `tensor` shares, if it is a copy, made for this call.
    pub(crate) copied: Option<Bound<'py, PyAny>>,
}

/// Shares the memory of `object`. Where its elements have another byte order than the machine's, or
/// strides that are no multiple of their size, NumPy copies them first, laid out as `format` says.
pub(crate) fn readable<'py>(
    object: &Bound<'py, PyAny>,
    format: MemoryFormat,
) -> PyResult<Readable<'py>> {
    let error = match share(object) {
        Ok(tensor) => return Ok(Readable { tensor, copied: None }),
        Err(error) => copy_errors::source_error(object, error),
    };
    let py = object.py();
    if !error.is_instance_of::<PyBufferError>(py) {
        return Err(error);
    }
    match copy_by_numpy(object, format) {
        Ok(Some(copied)) => Ok(Readable { tensor: share(&copied)?, copied: Some(copied) }),
        Err(late) if late.is_instance_of::<PyBufferError>(py) => Err(late),
        // The first error describes the object, so the second is dropped.
        Ok(None) | Err(_) => Err(error),
    }
}

/// A copy that DLPack can describe. `None` for an object that is no array of NumPy's, no buffer and
/// no array interface, and for elements that NumPy's copy would not make any different.
fn copy_by_numpy<'py>(
    object: &Bound<'py, PyAny>,
    format: MemoryFormat,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = object.py();
    if NDARRAY.is_type_of(object) {
        numpy::refuse_mask(object)?;
    } else if object.hasattr(intern!(py, "__dlpack__"))? {
        return Ok(None);
    }
    let array = numpy_asarray(object)?;
    let dtype = array.getattr(intern!(py, "dtype"))?;
    let itemsize: isize = dtype.getattr(intern!(py, "itemsize"))?.extract()?;
    let strides: Vec<isize> = array.getattr(intern!(py, "strides"))?.extract()?;
    let native: bool = dtype.getattr(intern!(py, "isnative"))?.extract()?;
    let even = strides.iter().all(|stride| stride.checked_rem(itemsize).unwrap_or(0) == 0);
    if native && even {
        return Ok(None);
    }
    let options = PyDict::new(py);
    options.set_item("order", if format == MemoryFormat::Contiguous { "C" } else { "K" })?;
    // NumPy reads the memory, so the memory must still exist.
    let _held = hold_memory(&array, &strides, itemsize)?;
    let native = dtype.call_method1(intern!(py, "newbyteorder"), ("=",))?;
    array.call_method(intern!(py, "astype"), (native,), Some(&options)).map(Some)
}

/// Holds the buffer that `array` was made over, if there is one; refuses an array whose buffer has
/// released its memory.
fn hold_memory(
    array: &Bound<'_, PyAny>,
    strides: &[isize],
    itemsize: isize,
) -> PyResult<Option<BufferGuard>> {
    let py = array.py();
    let shape: Vec<isize> = array.getattr(intern!(py, "shape"))?.extract()?;
    let interface = array.getattr(intern!(py, "__array_interface__"))?;
    let (first, _): (usize, bool) = interface.get_item("data")?.extract()?;
    let itemsize = usize::try_from(itemsize).unwrap_or(0);
    match base_buffer::span(first, &shape, strides, itemsize) {
        Some(elements) => base_buffer::hold(array, elements),
        None => Err(PyBufferError::new_err("the array exceeds the address space")),
    }
}
