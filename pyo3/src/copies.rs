//! Copies of an array into a new one of the same library.

use dlbridge::{MemoryFormat, Tensor};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::clone::{clone_as, detach_if_large};
use crate::error::buffer_error;
use crate::export::buffer::memoryview;
use crate::export::numpy;
use crate::import::{self, Readable};
use crate::known_types::{NDARRAY, TORCH_TENSOR};
use crate::py_tensor::PyTensor;
use crate::tensor_object::TensorObject;
use crate::torch_owner::check_owner_address;

/// Copies `object`, an array of any library, into new memory that only the result reaches.
///
/// Unlike [`from_dlpack`](crate::from_dlpack), it takes NumPy arrays of another byte order and with
/// strides that are no multiple of the element size. The copy keeps the order of the strides.
///
/// Raises TypeError for objects that are not arrays, and otherwise as
/// [`from_dlpack`](crate::from_dlpack).
///
/// ```
/// use pyo3::prelude::*;
///
/// # fn main() -> PyResult<()> {
/// Python::attach(|py| {
///     let array = py.import("numpy")?.call_method1("arange", (3,))?;
///     let mut copy = dlbridge_pyo3::tensor(&array)?.into_tensor(py)?;
///     copy.as_slice_mut::<i64>().expect("exclusive memory")[0] = 7; // `array` does not change
///     Ok(())
/// })
/// # }
/// ```
pub fn tensor(object: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    let source = import::readable(object, MemoryFormat::Preserve)?;
    clone_as(object.py(), &source.tensor, MemoryFormat::Preserve).map(PyTensor::from_python)
}

/// Copies an array into a new one of the same library, as [`like`](crate::like) makes it.
///
/// The copy keeps the order of the strides and closes gaps. NumPy and PyTorch own its memory.
///
/// Raises as [`tensor`].
///
/// ```
/// use pyo3::prelude::*;
///
/// # fn main() -> PyResult<()> {
/// Python::attach(|py| {
///     let array = py.import("torch")?.call_method1("arange", (3,))?;
///     let copy = dlbridge_pyo3::clone(&array)?;
///     assert!(copy.get_type().is(&array.get_type()) && !copy.is(&array));
///     Ok(())
/// })
/// # }
/// ```
pub fn clone<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let source = import::readable(array, MemoryFormat::Preserve)?;
    copy_within_library(array, source, MemoryFormat::Preserve)
}

/// Returns a row-major array as it is, and copies any other into a new one of the same library.
///
/// Raises as [`tensor`].
///
/// ```
/// use pyo3::prelude::*;
///
/// # fn main() -> PyResult<()> {
/// Python::attach(|py| {
///     let array = py.import("numpy")?.call_method1("ones", ((2, 3),))?;
///     assert!(dlbridge_pyo3::contiguous(&array)?.is(&array));
///     assert!(!dlbridge_pyo3::contiguous(&array.getattr("T")?)?.is(&array));
///     Ok(())
/// })
/// # }
/// ```
pub fn contiguous<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let source = import::readable(array, MemoryFormat::Contiguous)?;
    if source.copied.is_none() && source.tensor.is_contiguous() {
        return with_harmless_strides(array, source.tensor);
    }
    copy_within_library(array, source, MemoryFormat::Contiguous)
}

/// Returns a row-major array itself. If it is a NumPy array with strides that have no meaning but
/// that PyTorch refuses, such as a negative stride of a dimension of size 1, returns a view of it
/// with other strides.
fn with_harmless_strides<'py>(
    array: &Bound<'py, PyAny>,
    source: Tensor,
) -> PyResult<Bound<'py, PyAny>> {
    if source.shape().iter().all(|&size| size > 1) || !NDARRAY.is_type_of(array) {
        return Ok(array.clone());
    }
    let strides: Vec<i64> = array.getattr(intern!(array.py(), "strides"))?.extract()?;
    let itemsize: i64 = array.getattr(intern!(array.py(), "itemsize"))?.extract()?;
    if strides.iter().all(|&bytes| bytes >= 0 && bytes.checked_rem(itemsize) == Some(0)) {
        return Ok(array.clone());
    }
    numpy::to_numpy(&TensorObject::new(source).into_bound(array.py())?)
}

fn copy_within_library<'py>(
    array: &Bound<'py, PyAny>,
    source: Readable<'py>,
    format: MemoryFormat,
) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    let Readable { tensor: source, copied } = source;
    if let Some(copied) = copied.filter(|_| NDARRAY.is_type_of(array)) {
        return Ok(copied);
    }
    // NumPy and PyTorch can resize arrays, so they must own the memory of the new one.
    let new = if NDARRAY.is_type_of(array) {
        new_ndarray(array, format)?
    } else if TORCH_TENSOR.is_type_of(array) {
        new_torch_tensor(array, &source, format)?
    } else {
        let clone = TensorObject::new(clone_as(py, &source, format)?).into_bound(py)?;
        return to_library_of(array, clone);
    };
    let target = import::share(&new)?;
    let copy = || {
        // SAFETY: `target` must not be in use by other code: its library just made it, and returned
        // it only to this function. If a library returns another array, it is checked for its
        // shape, for being writable, and for sharing memory with `source`.
        unsafe { source.copy_into_new_unchecked(&target) }
    };
    // Python code has run since the source was imported, and may have moved its memory.
    check_owner_address(py, &source)?;
    check_owner_address(py, &target)?;
    detach_if_large(py, &source, &target, copy).map_err(buffer_error)?;
    Ok(new)
}

/// A new array like `array`, not written yet. For an array of a derived class it is a plain one,
/// because a derived class may change what NumPy's functions do.
pub(crate) fn new_ndarray<'py>(
    array: &Bound<'py, PyAny>,
    format: MemoryFormat,
) -> PyResult<Bound<'py, PyAny>> {
    static EMPTY_LIKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = array.py();
    let order =
        if format == MemoryFormat::Contiguous { intern!(py, "C") } else { intern!(py, "K") };
    let plain;
    let array = if NDARRAY.is_exact_type_of(array) {
        array
    } else {
        let (class, _) = NDARRAY
            .look_up(py)
            .ok_or_else(|| PyTypeError::new_err("numpy.ndarray cannot be found"))?;
        plain = VIEW
            .get_or_try_init(py, || class.getattr("view").map(Bound::unbind))?
            .bind(py)
            .call1((array, class))?;
        &plain
    };
    let empty_like = EMPTY_LIKE.import(py, "numpy", "empty_like")?;
    let (none, end) = (py.None(), std::ptr::null_mut::<ffi::PyObject>());
    // SAFETY: the function and its arguments must be alive, as a `Bound` is, and end with NULL.
    let new = unsafe {
        ffi::PyObject_CallFunctionObjArgs(
            empty_like.as_ptr(),
            array.as_ptr(),
            none.as_ptr(),
            order.as_ptr(),
            end,
        )
    };
    // SAFETY: the pointer must be a new reference, or NULL with an exception set: the interpreter's
    // call functions return that.
    unsafe { Bound::from_owned_ptr_or_err(py, new) }
}

/// A new tensor like `tensor`, not written yet. For a tensor of a derived class it is a plain one.
fn new_torch_tensor<'py>(
    tensor: &Bound<'py, PyAny>,
    source: &Tensor,
    format: MemoryFormat,
) -> PyResult<Bound<'py, PyAny>> {
    static EMPTY_STRIDED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = tensor.py();
    // dlbridge lays a copy out by PyTorch's rule.
    let layout = source.layout().cloned(format).map_err(buffer_error)?;
    let options = PyDict::new(py);
    options.set_item(intern!(py, "dtype"), tensor.getattr(intern!(py, "dtype"))?)?;
    // Without this option, PyTorch would use its default device, which may be another.
    options.set_item(intern!(py, "device"), tensor.getattr(intern!(py, "device"))?)?;
    let (sizes, strides) = (PyTuple::new(py, layout.shape())?, PyTuple::new(py, layout.strides())?);
    let new = EMPTY_STRIDED
        .import(py, "torch", "empty_strided")?
        .call((sizes, strides), Some(&options))?;
    if !TORCH_TENSOR.is_exact_type_of(&new) {
        return Err(PyTypeError::new_err("torch.empty_strided() gave no plain tensor"));
    }
    Ok(new)
}

/// Passes `tensor` to `from_dlpack` of the library of `array`; returns `tensor` itself if that
/// library has no such function.
pub(crate) fn to_library_of<'py>(
    array: &Bound<'py, PyAny>,
    tensor: Bound<'py, TensorObject>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    if array.is_exact_instance_of::<TensorObject>() {
        return Ok(tensor.into_any());
    }
    if let Some(namespace) = array.getattr_opt(intern!(py, "__array_namespace__"))? {
        return namespace.call0()?.call_method1(intern!(py, "from_dlpack"), (tensor,));
    }
    if array.hasattr(intern!(py, "__dlpack__"))? {
        let module: String = array.get_type().getattr(intern!(py, "__module__"))?.extract()?;
        let root = module.split('.').next().unwrap_or_default();
        let root = py.import(root).ok().filter(|root| root.hasattr("from_dlpack").unwrap_or(false));
        return match root {
            Some(root) => root.call_method1(intern!(py, "from_dlpack"), (tensor,)),
            None => Ok(tensor.into_any()),
        };
    }
    // SAFETY: the object must be alive, as a `Bound` is.
    if unsafe { ffi::PyObject_CheckBuffer(array.as_ptr()) } != 0 {
        return memoryview(tensor.as_any());
    }
    Ok(tensor.into_any())
}
