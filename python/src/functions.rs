//! The functions of the module.

use dlbridge::MemoryFormat;
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;

use crate::class::PyTensor;
use crate::clone::clone as clone_tensor;
use crate::{copies, dlpack_import, import};

/// Shares the memory of any array.
///
/// Takes anything with `__dlpack__`, old or new, with the buffer protocol (bytes, memoryview,
/// array.array, mmap), with `__array_interface__` or `__cuda_array_interface__`, and DLPack
/// capsules. Read-only memory stays read-only.
///
/// With `device`, memory elsewhere is copied there, by the producer or by dlbridge. `copy=True`
/// copies in any case, and `copy=False` raises ValueError where sharing would need a copy.
///
/// A NumPy scalar, for example `numpy.float32(1)`, has no memory that can be shared, so it is
/// copied.
///
/// Raises BufferError for what cannot be shared, for example tensors that require gradient or reach
/// beyond their storage, elements of no DLPack type or of another byte order, or strides that are
/// no multiple of the element's size, and AttributeError for objects that are not arrays. An
/// exception that the producer raises is passed on. `tensor` and `clone` copy elements of another
/// byte order and of any strides.
///
/// PyTorch can move the memory of a tensor after it was shared. BufferError is raised when the
/// Tensor is used afterwards; arrays that were made from it before then see memory that is gone, or
/// that PyTorch does not use any more.
#[pyfunction]
#[pyo3(signature = (x, /, *, device = None, copy = None))]
pub(crate) fn from_dlpack(
    x: &Bound<'_, PyAny>,
    device: Option<&Bound<'_, PyAny>>,
    copy: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTensor> {
    dlpack_import::from_dlpack(x, device, copy).map(PyTensor::new)
}

/// Shares the memory of a NumPy array, read-only if the array is.
///
/// Strides may be negative or zero. An array over a buffer that can be released, such as
/// `numpy.ndarray(shape, buffer=shared_memory.buf)`, exports the buffer as long as the tensor
/// lives, so that closing or resizing it raises BufferError. An array whose buffer was released
/// before is refused with BufferError.
///
/// Raises TypeError for anything but an array, and for element types that DLPack does not have; ValueError for strides that are no multiple of the element's
/// size, and for a byte order that is not the machine's; BufferError for a masked array with masked
/// elements.
#[pyfunction]
#[pyo3(signature = (array, /))]
pub(crate) fn from_numpy(array: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    import::numpy::from_numpy(array).map(PyTensor::new)
}

/// Copies any array that `from_dlpack` takes into new memory that may be written.
///
/// NumPy arrays, buffers and array interfaces may also have elements of another byte order than the
/// machine's (the copy has the machine's), and strides that are no multiple of the element's size,
/// as fields of packed records have. The order of the strides is kept, and gaps are closed; memory of
/// a CUDA device is copied there. A NumPy scalar becomes a tensor without dimensions.
///
/// Raises TypeError for objects that are not arrays, lists among them, and BufferError as
/// `from_dlpack` does.
#[pyfunction]
#[pyo3(name = "tensor", signature = (x, /))]
pub(crate) fn tensor_copy(x: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    let py = x.py();
    let source = import::readable(x, MemoryFormat::Preserve).map_err(|error| {
        if !error.is_instance_of::<PyAttributeError>(py) {
            return error;
        }
        let class =
            x.get_type().fully_qualified_name().map(|name| name.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!(
            "expected an array of any library, got '{class}': numpy.array() makes one"
        ))
    })?;
    clone_tensor(py, &source.tensor).map(PyTensor::new)
}

/// Copies any array into a new one of the same library.
///
/// The order of the strides is kept, and gaps are closed. NumPy and PyTorch own the new memory; the
/// copy of an array of a derived class is a plain array. NumPy arrays may have the byte order and
/// the strides that `tensor` takes; their copies have the machine's byte order. Other libraries
/// share the memory with dlbridge through their own `from_dlpack`. The copy of an object that has
/// only the buffer protocol is a memoryview, that of any other object a Tensor.
///
/// Raises BufferError and AttributeError as `from_dlpack` does.
#[pyfunction]
#[pyo3(signature = (x, /))]
pub(crate) fn clone<'py>(x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    copies::copy_of(x, MemoryFormat::Preserve)
}

/// The array itself when its elements lie in row-major order; otherwise a copy that does.
///
/// The copy is a new array of the same library, as `clone` makes it.
#[pyfunction]
#[pyo3(signature = (x, /))]
pub(crate) fn contiguous<'py>(x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    copies::contiguous(x)
}

/// Copies the elements of one array into another of the same shape and element type.
///
/// The arrays may be of any libraries, have any strides, share memory, and be on different devices;
/// `src` may be anything that `tensor` takes.
/// Nothing is broadcast or cast, and no byte between the elements of `dst` is written. A copy to a
/// CUDA device is complete in the order of its legacy default stream.
///
/// Raises ValueError for other shapes or types, for read-only memory, and for a `dst` whose
/// elements share memory.
#[pyfunction]
#[pyo3(signature = (dst, src, /))]
pub(crate) fn copyto(dst: &Bound<'_, PyAny>, src: &Bound<'_, PyAny>) -> PyResult<()> {
    copies::copy_to(dst, src)
}
