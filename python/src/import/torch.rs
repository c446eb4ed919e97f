//! PyTorch tensors, without linking libtorch: through the exchange table of `torch.Tensor`.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

use dlbridge::ffi::{DLManagedTensorVersioned, DLPackExchangeAPI, kDLCUDA};
use dlbridge::{DType, Device, Stream, Tensor};
use pyo3::exceptions::{PyBufferError, PyRuntimeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::protocol::{self, Request};
use crate::call::call_one;
use crate::error::buffer_error;
use crate::known_types::TORCH_TENSOR;
use crate::torch_table::{torch_error, torch_table};

/// The checks of `torch.Tensor` that its table leaves out, looked up once.
struct TorchChecks {
    /// The descriptor of the attribute `requires_grad`.
    requires_grad: Py<PyAny>,
    /// The function that reads the descriptor.
    get: ffi::descrgetfunc,
    is_neg: Py<PyAny>,
}

static TORCH_CHECKS: PyOnceLock<TorchChecks> = PyOnceLock::new();

impl TorchChecks {
    #[inline]
    fn get(py: Python<'_>) -> PyResult<&Self> {
        TORCH_CHECKS.get_or_try_init(py, || {
            let (class, _) = TORCH_TENSOR
                .look_up(py)
                .ok_or_else(|| PyRuntimeError::new_err("torch is not loaded"))?;
            // A descriptor that C code defines: read from the class, it is itself.
            let requires_grad = class.getattr(intern!(py, "requires_grad"))?;
            // SAFETY: the class must be alive, as that of a `Bound` is.
            let get = unsafe {
                ffi::PyType_GetSlot(requires_grad.get_type().as_type_ptr(), ffi::Py_tp_descr_get)
            };
            // SAFETY: the pointer must be NULL or that of a function of this type: the slot
            // `tp_descr_get` is defined so.
            let get = unsafe { std::mem::transmute::<*mut c_void, Option<ffi::descrgetfunc>>(get) };
            let get = get.ok_or_else(|| {
                PyRuntimeError::new_err("torch.Tensor.requires_grad is no attribute")
            })?;
            let is_neg = class.getattr(intern!(py, "is_neg"))?.unbind();
            Ok(Self { requires_grad: requires_grad.unbind(), get, is_neg })
        })
    }

    #[inline]
    fn requires_grad(&self, tensor: &Bound<'_, PyAny>) -> PyResult<bool> {
        // SAFETY: the function must be called with its own descriptor and an object of the class
        // that has it: `get` stored both, and `tensor` is a `torch.Tensor`.
        let answer =
            unsafe { (self.get)(self.requires_grad.as_ptr(), tensor.as_ptr(), null_mut()) };
        // SAFETY: the pointer must be a new reference, or NULL with an exception set:
        // `tp_descr_get` returns that.
        is_true(&unsafe { Bound::from_owned_ptr_or_err(tensor.py(), answer) }?)
    }

    #[inline]
    fn is_neg(&self, tensor: &Bound<'_, PyAny>) -> PyResult<bool> {
        is_true(&call_one(self.is_neg.bind(tensor.py()), tensor)?)
    }
}

/// Whether the answer of a check is true.
#[inline]
fn is_true(answer: &Bound<'_, PyAny>) -> PyResult<bool> {
    // SAFETY: `Py_False` has no precondition but an attached thread, as `answer` proves.
    if answer.as_ptr() == unsafe { ffi::Py_False() } { Ok(false) } else { answer.is_truthy() }
}

/// Orders later uses of a CUDA tensor after the work on PyTorch's current stream, as `__dlpack__`
/// does; exports through the table do not. Returns false if that is not possible.
#[cold]
fn wait_current_stream(py: Python<'_>, table: &DLPackExchangeAPI, tensor: &Tensor) -> bool {
    let device = tensor.device();
    let Some(current) = table.current_work_stream.filter(|_| device == Device::cuda(device.index))
    else {
        return false;
    };
    let mut stream = null_mut::<c_void>();
    // SAFETY: the function must be called with an address to write to: that of `stream`.
    if unsafe { current(kDLCUDA, device.index, &mut stream) } != 0 {
        drop(PyErr::take(py));
        return false;
    }
    match i64::try_from(stream.addr()) {
        // Both numbers are those of the legacy default stream.
        Ok(0 | 1) => true,
        Ok(number) => {
            // SAFETY: the stream must be alive while it is used: it is PyTorch's current stream,
            // and is used only within this block.
            let stream = unsafe { Stream::from_raw(device, number, ()) };
            stream.and_then(|stream| tensor.wait_stream(&stream)).is_ok()
        }
        Err(_) => false,
    }
}

/// Shares the memory of a `torch.Tensor`, which must not be of a derived class, after the checks
/// that the table leaves out. `None` if only `__dlpack__` can export the tensor: on a device other
/// than CUDA, whose streams are not known here, and for a PyTorch without a table.
#[inline(always)] // the path of `from_dlpack` for a tensor; `receive` calls it too, seldom
pub(super) fn share(tensor: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    let py = tensor.py();
    let Some(table) = torch_table(py)? else { return Ok(None) };
    let Some(export) = table.managed_tensor_from_py_object_no_sync else { return Ok(None) };
    let checks = TorchChecks::get(py)?;
    if checks.requires_grad(tensor)? {
        return Err(PyBufferError::new_err(
            "can't share a tensor that requires gradient: use tensor.detach()",
        ));
    }
    // A tensor of any signed type may have its negative bit set.
    if checks.is_neg(tensor)? {
        return Err(PyBufferError::new_err(
            "can't share a tensor that has its negative bit set: use tensor.resolve_neg()",
        ));
    }
    let mut raw = null_mut::<DLManagedTensorVersioned>();
    // SAFETY: the function must be called with an object of the table's class and an address to
    // write to: `tensor` is a `torch.Tensor`, and `raw` is writable.
    if unsafe { export(tensor.as_ptr().cast::<c_void>(), &mut raw) } != 0 {
        return Err(torch_error(py));
    }
    let Some(raw) = NonNull::new(raw) else {
        return Err(PyRuntimeError::new_err("torch gave no tensor and no error"));
    };
    // SAFETY: `raw` must be a valid struct that nothing else owns: the table's contract says so of
    // what it returns. No Rust view of the memory is made in this crate.
    let shared = unsafe { Tensor::from_dlpack(raw) }.map_err(buffer_error)?;
    if !shared.device().is_host() && !wait_current_stream(py, table, &shared) {
        return Ok(None);
    }
    let dtype = shared.dtype();
    if dtype.bits == 8 && dtype.code < 2 && is_sub_byte(tensor)? {
        return Err(sub_byte_error());
    }
    if matches!(dtype, DType { code: 5, .. })
        && tensor.call_method0(intern!(py, "is_conj"))?.is_truthy()?
    {
        return Err(PyBufferError::new_err(
            "can't share a tensor that has its conjugate bit set: use tensor.resolve_conj()",
        ));
    }
    Ok(Some(shared))
}

/// Shares the memory of a tensor that PyTorch just returned, through the table if it has one.
#[cold]
pub(crate) fn receive(tensor: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    if TORCH_TENSOR.is_type_of(tensor) {
        if TORCH_TENSOR.is_exact_type_of(tensor)
            && let Some(shared) = share(tensor)?
        {
            return Ok(shared);
        }
        check_before_export(tensor)?;
    }
    protocol::share(tensor, Request::default())
}

/// Checks what a tensor's own `__dlpack__` does not check. For a tensor of a derived class, or of a
/// PyTorch without a table.
pub(super) fn check_before_export(tensor: &Bound<'_, PyAny>) -> PyResult<()> {
    if tensor.call_method0(intern!(tensor.py(), "is_neg"))?.is_truthy()? {
        return Err(PyBufferError::new_err(
            "can't share a tensor that has its negative bit set: use tensor.resolve_neg()",
        ));
    }
    let dtype = tensor.getattr(intern!(tensor.py(), "dtype"))?.str()?;
    let dtype = dtype.to_str()?.trim_start_matches("torch.").trim_start_matches('u');
    if matches!(dtype, "int1" | "int2" | "int3" | "int4" | "int5" | "int6" | "int7") {
        return Err(sub_byte_error());
    }
    Ok(())
}

#[cold]
fn sub_byte_error() -> PyErr {
    PyBufferError::new_err("DLPack has no type for torch's integers below a byte")
}

/// Whether the elements are integers of fewer than 8 bits, which PyTorch exports as bytes.
fn is_sub_byte(tensor: &Bound<'_, PyAny>) -> PyResult<bool> {
    let dtype = tensor.getattr(intern!(tensor.py(), "dtype"))?;
    let name = dtype.str()?;
    let name = name.to_str()?;
    Ok(!matches!(name, "torch.int8" | "torch.uint8"))
}
