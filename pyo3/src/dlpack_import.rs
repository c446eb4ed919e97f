//! Import with the arguments `device` and `copy`: `dlbridge.from_dlpack`, `dlbridge.from_numpy`.

#![forbid(unsafe_code)]

use dlbridge::{Access, Tensor};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::clone::clone;
use crate::copy_flag::parse_copy;
use crate::import::{self, Request};
use crate::py_tensor::PyTensor;
use crate::target_device::TargetDevice;
use crate::tensor_object::TensorObject;
use crate::transfer;

/// Shares the memory of `object`, or copies it, as `device` and `copy` say: `dlbridge.from_dlpack`.
///
/// `object` may be an array of NumPy, PyTorch, JAX or another library with `__dlpack__`; have the
/// buffer protocol, `__array_interface__` or `__cuda_array_interface__`; or be a DLPack capsule.
/// Read-only memory stays read-only.
///
/// `device` is `"cpu"`, `"cuda"`, `"cuda:1"` or an object with such a `str`, and `copy` a `bool`.
/// Without them, nothing is copied, except a NumPy scalar.
///
/// Raises BufferError for data that cannot be shared, with the reason and, where there is one, the
/// remedy; ValueError if a copy is needed and `copy` is False; AttributeError for objects that are
/// not arrays; ImportError in a subinterpreter. Exceptions of the producer are passed on.
///
/// ```
/// use pyo3::prelude::*;
///
/// # fn main() -> PyResult<()> {
/// Python::attach(|py| {
///     let array = py.import("numpy")?.call_method1("ones", (3,))?;
///     let shared = dlbridge_pyo3::from_dlpack(&array, None, None)?;
///     array.set_item(0, 5.0)?;
///     assert_eq!(shared.to_vec::<f64>(py)?, [5.0, 1.0, 1.0]);
///     Ok(())
/// })
/// # }
/// ```
#[inline]
pub fn from_dlpack(
    object: &Bound<'_, PyAny>,
    device: Option<&Bound<'_, PyAny>>,
    copy: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTensor> {
    if device.is_none() && copy.is_none() {
        return import::share(object).map(PyTensor::from_python);
    }
    from_dlpack_with(object, device, copy).map(PyTensor::from_python)
}

/// Shares the memory of a NumPy array, with the errors of `torch.from_numpy`. Nothing is copied.
///
/// Raises TypeError if `array` is not a NumPy array, and for element types that DLPack does not
/// have; ValueError for strides that are no multiple of the element size, and for a byte order that
/// is not the machine's; and BufferError for a masked array with masked elements.
///
/// ```
/// use pyo3::prelude::*;
///
/// # fn main() -> PyResult<()> {
/// Python::attach(|py| {
///     let list = pyo3::types::PyList::new(py, [1, 2])?;
///     assert!(dlbridge_pyo3::from_numpy(&list).is_err()); // strict
///     Ok(())
/// })
/// # }
/// ```
pub fn from_numpy(array: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    import::numpy::from_numpy(array).map(PyTensor::from_python)
}

#[cold]
fn from_dlpack_with(
    object: &Bound<'_, PyAny>,
    device: Option<&Bound<'_, PyAny>>,
    copy: Option<&Bound<'_, PyAny>>,
) -> PyResult<Tensor> {
    let py = object.py();
    if import::is_capsule(object) {
        return Err(PyValueError::new_err(
            "device and copy are not supported for a capsule: pass the object with __dlpack__ instead",
        ));
    }
    let target = device.map(|device| TargetDevice::parse(device, "from_dlpack()")).transpose()?;
    let copy = copy.map(parse_copy).transpose()?;
    let tensor = import::share_as(object, Request { target, copy })?;
    if let Some(target) = target
        && !target.includes(tensor.device())
    {
        if copy == Some(false) {
            return Err(PyValueError::new_err(format!(
                "the memory is on {} and can't be on {target} without a copy: leave copy out",
                tensor.device()
            )));
        }
        return transfer::to_target(py, tensor, target);
    }
    // A producer on another device was asked to make the copy itself.
    let producer_copied = !tensor.device().is_host()
        && !object.is_exact_instance_of::<TensorObject>()
        && object.hasattr(intern!(py, "__dlpack__"))?;
    if copy == Some(true) && !producer_copied && tensor.access() != Access::Exclusive {
        return clone(py, &tensor);
    }
    Ok(tensor)
}
