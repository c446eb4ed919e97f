//! The copy engine for everybody's arrays: each gives back the kind that it got.

use dlbridge::{Error, MemoryFormat, Tensor};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyTuple};

use crate::buffer;
use crate::error::{buffer_error, copy_error};
use crate::export::is_read_only;
use crate::import;
use crate::library::{NDARRAY, TORCH_TENSOR};
use crate::tensor::PyTensor;

/// From so many bytes on a copy lets other threads of Python run.
const DETACHED: usize = 64 << 10;

/// Whether a copy is done in no time. On a device it may wait for work that itself waits for the interpreter.
fn is_quick(from: &Tensor, to: &Tensor) -> bool {
    from.nbytes() < DETACHED && from.device().is_host() && to.device().is_host()
}

/// Reads `copy=`: `True`, `False`, or NumPy's.
pub(crate) fn flag(copy: &Bound<'_, PyAny>) -> PyResult<bool> {
    if let Ok(copy) = copy.cast::<PyBool>() {
        return Ok(copy.is_true());
    }
    let class = copy.get_type().fully_qualified_name()?;
    if matches!(class.to_str()?, "numpy.bool" | "numpy.bool_") {
        return copy.is_truthy();
    }
    Err(PyTypeError::new_err(format!("copy is a bool or None, not '{class}'")))
}

/// A copy that keeps the order of the strides.
pub(crate) fn clone(py: Python<'_>, tensor: &Tensor) -> PyResult<Tensor> {
    clone_as(py, tensor, MemoryFormat::Preserve)
}

pub(crate) fn clone_as(py: Python<'_>, tensor: &Tensor, format: MemoryFormat) -> PyResult<Tensor> {
    let copy = || tensor.deep_clone_with(format);
    let clone = if is_quick(tensor, tensor) { copy() } else { py.detach(copy) };
    clone.map_err(buffer_error)
}

/// Copies any array into a new one of its kind.
pub(crate) fn copy_of<'py>(
    array: &Bound<'py, PyAny>,
    format: MemoryFormat,
) -> PyResult<Bound<'py, PyAny>> {
    let source = import::share(array)?;
    copy_as_kind(array, &source, format)
}

/// Gives a row-major array back as it is, and copies any other into a new one of its kind.
pub(crate) fn contiguous<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let source = import::share(array)?;
    if source.is_contiguous() {
        return Ok(array.clone());
    }
    copy_as_kind(array, &source, MemoryFormat::Contiguous)
}

fn copy_as_kind<'py>(
    array: &Bound<'py, PyAny>,
    source: &Tensor,
    format: MemoryFormat,
) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    // NumPy's and PyTorch's arrays may be resized, so their memory is their own.
    let new = if NDARRAY.is_class_of(array) {
        new_ndarray(array, format)?
    } else if TORCH_TENSOR.is_class_of(array) {
        new_torch_tensor(array, source, format)?
    } else {
        let clone = PyTensor::new(clone_as(py, source, format)?).into_bound(py)?;
        return handed_to_kind(array, clone);
    };
    let target = import::share(&new)?;
    // SAFETY: an array that was made just now, for nobody else; whatever else a library may have given may be written
    // too, and is looked at: that it is as large, and not the source.
    let copy = || unsafe { source.copy_into_new_unchecked(&target) };
    let copied = if is_quick(source, &target) { copy() } else { py.detach(copy) };
    copied.map_err(copy_error)?;
    Ok(new)
}

/// An array like another, not written yet. Of a derived class it is a plain one: such classes may answer as
/// they please.
fn new_ndarray<'py>(
    array: &Bound<'py, PyAny>,
    format: MemoryFormat,
) -> PyResult<Bound<'py, PyAny>> {
    static EMPTY_LIKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = array.py();
    let order =
        if format == MemoryFormat::Contiguous { intern!(py, "C") } else { intern!(py, "K") };
    let plain;
    let array = if NDARRAY.is_known_class_of(array) {
        array
    } else {
        let (class, _) =
            NDARRAY.look_up(py).ok_or_else(|| PyTypeError::new_err("NumPy is gone"))?;
        plain = VIEW
            .get_or_try_init(py, || class.getattr("view").map(Bound::unbind))?
            .bind(py)
            .call1((array, class))?;
        &plain
    };
    let empty_like = EMPTY_LIKE.import(py, "numpy", "empty_like")?;
    let (none, end) = (py.None(), std::ptr::null_mut::<ffi::PyObject>());
    // SAFETY: live objects, and the end of the arguments.
    let new = unsafe {
        ffi::PyObject_CallFunctionObjArgs(
            empty_like.as_ptr(),
            array.as_ptr(),
            none.as_ptr(),
            order.as_ptr(),
            end,
        )
    };
    // SAFETY: a new reference, or NULL with an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, new) }
}

/// A tensor like another, not written yet. Of a derived class it is a plain one.
fn new_torch_tensor<'py>(
    tensor: &Bound<'py, PyAny>,
    source: &Tensor,
    format: MemoryFormat,
) -> PyResult<Bound<'py, PyAny>> {
    static EMPTY_STRIDED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = tensor.py();
    // Ours is torch's rule.
    let layout = source.layout().cloned(format).map_err(buffer_error)?;
    let options = PyDict::new(py);
    options.set_item(intern!(py, "dtype"), tensor.getattr(intern!(py, "dtype"))?)?;
    // Whatever the default is.
    options.set_item(intern!(py, "device"), tensor.getattr(intern!(py, "device"))?)?;
    let (sizes, strides) = (PyTuple::new(py, layout.shape())?, PyTuple::new(py, layout.strides())?);
    let new = EMPTY_STRIDED
        .import(py, "torch", "empty_strided")?
        .call((sizes, strides), Some(&options))?;
    if !TORCH_TENSOR.is_known_class_of(&new) {
        return Err(PyTypeError::new_err("torch.empty_strided() gave no plain tensor"));
    }
    Ok(new)
}

/// Hands a tensor to the library that an array is of. The tensor itself, when that library does not say how.
fn handed_to_kind<'py>(
    array: &Bound<'py, PyAny>,
    tensor: Bound<'py, PyTensor>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    if array.is_exact_instance_of::<PyTensor>() {
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
    // SAFETY: a live object.
    if unsafe { ffi::PyObject_CheckBuffer(array.as_ptr()) } != 0 {
        return buffer::view(tensor.as_any());
    }
    Ok(tensor.into_any())
}

/// Copies elements from one array to another: `dlbridge.copyto`.
pub(crate) fn copy_to(target: &Bound<'_, PyAny>, source: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = target.py();
    let (to, from) = (import::share_to_write(target)?, import::share(source)?);
    if is_read_only(&to) {
        return Err(PyValueError::new_err("copy destination is read-only"));
    }
    match copy_elements(py, &from, &to) {
        // They reach into the same stretch of memory: through a copy.
        Err(Error::CopyOverlaps) => {
            copy_elements(py, &clone(py, &from)?, &to).map_err(copy_error)?
        }
        copied => copied.map_err(copy_error)?,
    }
    if TORCH_TENSOR.is_class_of(target) {
        // What autograd saved of the tensor before is out of date now.
        let graph = py.import(intern!(py, "torch.autograd.graph"))?;
        graph.call_method1(intern!(py, "increment_version"), (target,))?;
    }
    Ok(())
}

fn copy_elements(py: Python<'_>, from: &Tensor, to: &Tensor) -> Result<(), Error> {
    // SAFETY: the target may be written; whoever else does so meanwhile races as with any other library of
    // Python's. No Rust view is ever made here.
    let copy = || unsafe { from.copy_into_unchecked(to) };
    if is_quick(from, to) { copy() } else { py.detach(copy) }
}
