//! Copies of an array into a new one of the same library.

use dlbridge::{DType, MemoryFormat, Tensor};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::clone::{clone_as, detach_if_large};
use crate::dtype_names::parse_dtype;
use crate::error::buffer_error;
use crate::export::buffer::memoryview;
use crate::export::numpy;
use crate::import::{self, Readable};
use crate::known_types::{NDARRAY, TORCH_TENSOR};
use crate::memory_format::{has_memory_format, parse_memory_format, parse_order};
use crate::numbers;
use crate::py_tensor::PyTensor;
use crate::target_device::TargetDevice;
use crate::tensor_object::TensorObject;
use crate::torch_owner::check_owner_address;
use crate::transfer;

/// Copies `object` into new memory that only the result reaches: an array of any library, a number,
/// or nested lists of numbers.
///
/// `dtype` is the element type for numbers; an array must have it already. `device` is the device
/// of the copy.
///
/// Unlike [`from_dlpack`](crate::from_dlpack), it takes NumPy arrays of another byte order and with
/// strides that are no multiple of the element size. The copy keeps the order of the strides.
///
/// Raises TypeError for objects that are neither arrays nor numbers and for an array of another
/// element type than `dtype`, and otherwise as
/// [`from_dlpack`](crate::from_dlpack).
///
/// ```
/// use pyo3::prelude::*;
///
/// # fn main() -> PyResult<()> {
/// Python::attach(|py| {
///     let array = py.import("numpy")?.call_method1("arange", (3,))?;
///     let mut copy = dlbridge_pyo3::tensor(&array, None, None)?.into_tensor(py)?;
///     copy.as_slice_mut::<i64>().expect("exclusive memory")[0] = 7; // `array` does not change
///     Ok(())
/// })
/// # }
/// ```
pub fn tensor(
    object: &Bound<'_, PyAny>,
    dtype: Option<&Bound<'_, PyAny>>,
    device: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTensor> {
    let dtype = dtype.map(parse_dtype).transpose()?;
    let target = device.map(|device| TargetDevice::parse(device, "tensor()")).transpose()?;
    let py = object.py();
    let on_target = |tensor: &Tensor| target.is_none_or(|target| target.includes(tensor.device()));
    if numbers::is_numbers(object) || dtype.is_some() && numbers::is_numpy_scalar(object) {
        let tensor = numbers::to_tensor(object, dtype)?;
        return match target {
            Some(target) if !on_target(&tensor) => transfer::to_target(py, tensor, target),
            _ => Ok(tensor),
        }
        .map(PyTensor::from_python);
    }
    let source = import::readable(object, MemoryFormat::Preserve)?.tensor;
    if let Some(dtype) = dtype.filter(|&dtype| dtype != source.dtype()) {
        return Err(cast_error(object, source.dtype(), dtype));
    }
    match target {
        Some(target) if !on_target(&source) => transfer::to_target(py, source, target),
        _ => clone_as(py, &source, MemoryFormat::Preserve),
    }
    .map(PyTensor::from_python)
}

/// The error for an array of another element type than the one that the caller asked for.
#[cold]
fn cast_error(array: &Bound<'_, PyAny>, found: DType, asked: DType) -> PyErr {
    let remedy = if TORCH_TENSOR.is_type_of(array) {
        format!("x.to(torch.{asked})")
    } else if NDARRAY.is_type_of(array) {
        format!("x.astype('{asked}')")
    } else if array.is_exact_instance_of::<TensorObject>() {
        format!("x.torch().to(torch.{asked}) or x.numpy().astype('{asked}')")
    } else {
        format!("numpy.asarray(x).astype('{asked}')")
    };
    PyTypeError::new_err(format!(
        "x has elements of type {found}, and tensor() casts only numbers: cast with {remedy}"
    ))
}

/// Copies an array into a new one of the same library, as [`like`](crate::like) makes it.
///
/// `memory_format` is the name of one of PyTorch's memory formats, or PyTorch's object. Without it,
/// the copy keeps the order of the strides and closes gaps. NumPy and PyTorch own its memory.
///
/// Raises as [`tensor`].
///
/// ```
/// use pyo3::prelude::*;
///
/// # fn main() -> PyResult<()> {
/// Python::attach(|py| {
///     let array = py.import("torch")?.call_method1("arange", (3,))?;
///     let copy = dlbridge_pyo3::clone(&array, None)?;
///     assert!(copy.get_type().is(&array.get_type()) && !copy.is(&array));
///     Ok(())
/// })
/// # }
/// ```
pub fn clone<'py>(
    array: &Bound<'py, PyAny>,
    memory_format: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let source = import::readable(array, MemoryFormat::Preserve)?;
    let format = match memory_format {
        Some(format) => parse_memory_format(&source.tensor, format)?,
        None => MemoryFormat::Preserve,
    };
    copy_within_library(array, source, format)
}

/// Returns an array as it is if it is laid out as `memory_format` says (row-major if that is
/// `None`), and copies any other into a new one of the same library.
///
/// Raises as [`tensor`].
///
/// ```
/// use pyo3::prelude::*;
///
/// # fn main() -> PyResult<()> {
/// Python::attach(|py| {
///     let array = py.import("numpy")?.call_method1("ones", ((2, 3),))?;
///     assert!(dlbridge_pyo3::contiguous(&array, None)?.is(&array));
///     assert!(!dlbridge_pyo3::contiguous(&array.getattr("T")?, None)?.is(&array));
///     Ok(())
/// })
/// # }
/// ```
pub fn contiguous<'py>(
    array: &Bound<'py, PyAny>,
    memory_format: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let source = import::readable(array, MemoryFormat::Contiguous)?;
    let format = match memory_format {
        Some(format) => parse_order(&source.tensor, format)?,
        None => MemoryFormat::Contiguous,
    };
    if source.copied.is_none() && has_memory_format(&source.tensor, format)? {
        return with_harmless_strides(array, source.tensor);
    }
    copy_within_library(array, source, format)
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
    let is_ndarray = NDARRAY.is_type_of(array);
    // NumPy's copy was made with the order of the strides, or row-major, as the caller asked.
    if let Some(copied) = &copied
        && is_ndarray
        && (format == MemoryFormat::Preserve || has_memory_format(&source, format)?)
    {
        return Ok(copied.clone());
    }
    // NumPy and PyTorch can resize arrays, so they must own the memory of the new one.
    let new = if is_ndarray {
        new_ndarray(copied.as_ref().unwrap_or(array), format)?
    } else if TORCH_TENSOR.is_type_of(array) {
        new_torch_tensor(array, &source, format)?
    } else {
        let clone = TensorObject::new(clone_as(py, &source, format)?).into_bound(py)?;
        return to_library_of(array, clone);
    };
    fill(&new, &source)?;
    Ok(new)
}

/// Copies the elements of `source` into `new`, an array that its library just made.
pub(crate) fn fill(new: &Bound<'_, PyAny>, source: &Tensor) -> PyResult<()> {
    let py = new.py();
    let target = import::share(new)?;
    let copy = || {
        // SAFETY: `target` must not be in use by other code: its library just made it, and returned
        // it only to the caller. If a library returns another array, it is checked for its shape,
        // for being writable, and for sharing memory with `source`.
        unsafe { source.copy_into_new_unchecked(&target) }
    };
    // Python code has run since the source was imported, and may have moved its memory.
    check_owner_address(py, source)?;
    check_owner_address(py, &target)?;
    detach_if_large(py, source, &target, copy).map_err(buffer_error)
}

/// A new array like `array`, not written yet. For an array of a derived class it is a plain one,
/// because a derived class may change what NumPy's functions do.
pub(crate) fn new_ndarray<'py>(
    array: &Bound<'py, PyAny>,
    format: MemoryFormat,
) -> PyResult<Bound<'py, PyAny>> {
    static VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = array.py();
    let order = match format {
        MemoryFormat::Contiguous => intern!(py, "C"),
        MemoryFormat::Preserve => intern!(py, "K"),
        _ => return new_channels_last_ndarray(array),
    };
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
    let empty_like = empty_like(py)?;
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

fn empty_like(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static EMPTY_LIKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    EMPTY_LIKE.import(py, "numpy", "empty_like")
}

/// A new array of the shape and element type of `array`, whose second dimension has stride 1. It
/// owns its memory: `numpy.empty_like` takes the order of the strides from another array.
fn new_channels_last_ndarray<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    let shape = array.getattr(intern!(py, "shape"))?;
    let rank = shape.len()?;
    let axes: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let rows = py.import("numpy")?.call_method1("empty", (vec![2; rank], "u1"))?;
    let order = rows.call_method1("transpose", (axes,))?;
    let options = PyDict::new(py);
    options.set_item("dtype", array.getattr(intern!(py, "dtype"))?)?;
    options.set_item("shape", shape)?;
    empty_like(py)?.call((order,), Some(&options))
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
    // Without the device, PyTorch would use its default device, which may be another.
    for name in [intern!(py, "dtype"), intern!(py, "device")] {
        // The class of a read-only wrapper refuses every call except of exports.
        let value = import::without_torch_function(py, || tensor.getattr(name))?;
        options.set_item(name, value)?;
    }
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
