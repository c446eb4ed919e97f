//! PyTorch tensors, without linking libtorch: through the exchange table that `torch.Tensor` publishes.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};

use dlbridge::ffi::{
    DLManagedTensorVersioned, DLPackExchangeAPI, DLPackExchangeAPIHeader, kDLCUDA,
};
use dlbridge::{DType, Device, Stream, Tensor};
use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::error::{buffer_error, caused_by};
use crate::export::{StrideClass, is_read_only};
use crate::library::{TORCH_TENSOR, call};
use crate::tensor::PyTensor;

/// The table of `torch.Tensor`, once it was asked for; it lives as long as the process.
static TABLE: AtomicPtr<DLPackExchangeAPI> = AtomicPtr::new(null_mut());

/// The exchange table of `torch.Tensor`. `None` for a PyTorch that has none of a version that we know.
#[inline]
fn table(py: Python<'_>) -> PyResult<Option<&'static DLPackExchangeAPI>> {
    let known = TABLE.load(Ordering::Relaxed);
    if !known.is_null() {
        // SAFETY: a table lives as long as the process: DLPack's rule for whoever publishes one.
        return Ok(Some(unsafe { &*known }));
    }
    find_table(py)
}

#[cold]
fn find_table(py: Python<'_>) -> PyResult<Option<&'static DLPackExchangeAPI>> {
    let Some((class, _)) = TORCH_TENSOR.look_up(py) else { return Ok(None) };
    let Ok(capsule) = class.getattr(intern!(py, "__dlpack_c_exchange_api__")) else {
        return Ok(None);
    };
    // SAFETY: a live object; of anything but such a capsule NULL comes back.
    let start =
        unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), c"dlpack_exchange_api".as_ptr()) };
    if start.is_null() {
        return Err(PyErr::fetch(py));
    }
    let mut header = start.cast::<DLPackExchangeAPIHeader>();
    while !header.is_null() {
        // SAFETY: a header of a table, or of an older one that it leads to.
        let DLPackExchangeAPIHeader { version, prev_api } = unsafe { *header };
        if version.major == 1 {
            TABLE.store(header.cast(), Ordering::Relaxed);
            // SAFETY: a header of this version begins a table of this version.
            return Ok(Some(unsafe { &*header.cast() }));
        }
        header = prev_api;
    }
    Ok(None)
}

/// What `torch.Tensor` answers about a tensor, found once.
struct TorchChecks {
    requires_grad: Py<PyAny>,
    get: ffi::descrgetfunc,
    is_neg: Py<PyAny>,
}

static TORCH_CHECKS: PyOnceLock<TorchChecks> = PyOnceLock::new();

impl TorchChecks {
    #[inline]
    fn of_torch(py: Python<'_>) -> PyResult<&Self> {
        TORCH_CHECKS.get_or_try_init(py, || {
            let (class, _) = TORCH_TENSOR
                .look_up(py)
                .ok_or_else(|| PyRuntimeError::new_err("torch is not loaded"))?;
            // An attribute of C's: asked of the class, it gives itself.
            let requires_grad = class.getattr(intern!(py, "requires_grad"))?;
            // SAFETY: a live class, and a slot that is a function of this type, or NULL.
            let get = unsafe {
                ffi::PyType_GetSlot(requires_grad.get_type().as_type_ptr(), ffi::Py_tp_descr_get)
            };
            // SAFETY: likewise.
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
        // SAFETY: a slot of the attribute's class, called as the interpreter does.
        let answer =
            unsafe { (self.get)(self.requires_grad.as_ptr(), tensor.as_ptr(), null_mut()) };
        // SAFETY: a new reference, or NULL with an exception.
        says_yes(&unsafe { Bound::from_owned_ptr_or_err(tensor.py(), answer) }?)
    }

    #[inline]
    fn is_neg(&self, tensor: &Bound<'_, PyAny>) -> PyResult<bool> {
        says_yes(&call(self.is_neg.bind(tensor.py()), tensor)?)
    }
}

/// What an answer says.
#[inline]
fn says_yes(answer: &Bound<'_, PyAny>) -> PyResult<bool> {
    // SAFETY: the interpreter's own constant, which lives as long as it does.
    if answer.as_ptr() == unsafe { ffi::Py_False() } { Ok(false) } else { answer.is_truthy() }
}

/// Has what PyTorch put on its current stream so far come before what is done with a CUDA tensor from now on, as
/// `__dlpack__` would: the table's exports do not. Says whether that is so.
#[cold]
fn counts_as_written(py: Python<'_>, table: &DLPackExchangeAPI, tensor: &Tensor) -> bool {
    let device = tensor.device();
    let Some(current) = table.current_work_stream.filter(|_| device == Device::cuda(device.index))
    else {
        return false;
    };
    let mut stream = null_mut::<c_void>();
    // SAFETY: a function of torch's, and room for an address.
    if unsafe { current(kDLCUDA, device.index, &mut stream) } != 0 {
        drop(PyErr::take(py));
        return false;
    }
    match i64::try_from(stream.addr()) {
        // The legacy default stream, by either of its names.
        Ok(0 | 1) => true,
        Ok(number) => {
            // SAFETY: PyTorch's current stream, which lives, and is looked at now only.
            let stream = unsafe { Stream::from_raw(device, number, ()) };
            stream.and_then(|stream| tensor.wait_stream(&stream)).is_ok()
        }
        Err(_) => false,
    }
}

/// A tensor's memory, shared, after the looks that the table leaves out. `None` when it is for
/// `__dlpack__` to export it: on a device other than CUDA's, whose streams are not known here.
///
/// `tensor` is a `torch.Tensor` and nothing derived from it.
#[inline]
pub(crate) fn share(tensor: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    let py = tensor.py();
    let Some(table) = table(py)? else { return Ok(None) };
    let Some(export) = table.managed_tensor_from_py_object_no_sync else { return Ok(None) };
    let checks = TorchChecks::of_torch(py)?;
    if checks.requires_grad(tensor)? {
        return Err(PyBufferError::new_err(
            "can't share a tensor that requires gradient: use tensor.detach()",
        ));
    }
    // Any signed type may be a negative view.
    if checks.is_neg(tensor)? {
        return Err(PyBufferError::new_err(
            "can't share a tensor that has its negative bit set: use tensor.resolve_neg()",
        ));
    }
    let mut raw = null_mut::<DLManagedTensorVersioned>();
    // SAFETY: the table is that of the object's own class; room for a struct's address.
    if unsafe { export(tensor.as_ptr().cast::<c_void>(), &mut raw) } != 0 {
        return Err(refused_by_torch(py));
    }
    let Some(raw) = NonNull::new(raw) else {
        return Err(PyRuntimeError::new_err("torch gave no tensor and no error"));
    };
    // SAFETY: a struct that torch made for us, and answers for. No Rust view is ever made here.
    let shared = unsafe { Tensor::from_dlpack(raw) }.map_err(buffer_error)?;
    if !shared.device().is_host() && !counts_as_written(py, table, &shared) {
        return Ok(None);
    }
    let dtype = shared.dtype();
    if dtype.bits == 8 && dtype.code < 2 && is_narrow(tensor)? {
        return Err(narrow());
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

/// The looks at a tensor that its own `__dlpack__` leaves out: of a derived class, or of a PyTorch without a table.
pub(crate) fn look_at(tensor: &Bound<'_, PyAny>) -> PyResult<()> {
    if tensor.call_method0(intern!(tensor.py(), "is_neg"))?.is_truthy()? {
        return Err(PyBufferError::new_err(
            "can't share a tensor that has its negative bit set: use tensor.resolve_neg()",
        ));
    }
    let dtype = tensor.getattr(intern!(tensor.py(), "dtype"))?.str()?;
    let dtype = dtype.to_str()?.trim_start_matches("torch.").trim_start_matches('u');
    if matches!(dtype, "int1" | "int2" | "int3" | "int4" | "int5" | "int6" | "int7") {
        return Err(narrow());
    }
    Ok(())
}

#[cold]
fn narrow() -> PyErr {
    PyBufferError::new_err("DLPack has no type for torch's integers below a byte")
}

/// torch's exception as a `BufferError`, without its list of C++ functions.
#[cold]
fn refused_by_torch(py: Python<'_>) -> PyErr {
    let cause = PyErr::fetch(py);
    let text = cause.value(py).to_string();
    caused_by(py, PyBufferError::new_err(text.lines().next().unwrap_or_default().to_owned()), cause)
}

/// Whether the elements are integers of fewer bits than the byte that torch exports them as.
fn is_narrow(tensor: &Bound<'_, PyAny>) -> PyResult<bool> {
    let dtype = tensor.getattr(intern!(tensor.py(), "dtype"))?;
    let name = dtype.str()?;
    let name = name.to_str()?;
    Ok(!matches!(name, "torch.int8" | "torch.uint8"))
}

/// Whether torch holds elements of this type, as far as we know; it says so itself of others.
fn holds(dtype: DType) -> bool {
    let DType { code, bits, lanes } = dtype;
    match (code, lanes) {
        (0 | 1, 1) => matches!(bits, 8 | 16 | 32 | 64),
        (2, 1) => matches!(bits, 16 | 32 | 64),
        (4, 1) => bits == 16,
        (5, 1) => matches!(bits, 32 | 64 | 128),
        (6, 1) => bits == 8,
        (10..=14, 1) => bits == 8,
        (17, 2) => bits == 4,
        _ => false,
    }
}

/// The tensor as a `torch.Tensor` that shares its memory.
pub(crate) fn to_torch<'py>(tensor: &Bound<'py, PyTensor>) -> PyResult<Bound<'py, PyAny>> {
    let py = tensor.py();
    let this = tensor.get().tensor();
    if is_read_only(this) {
        return Err(PyBufferError::new_err(
            "the memory is read-only, and PyTorch would write it: use clone().torch()",
        ));
    }
    if StrideClass::of(this) == StrideClass::Reversed {
        return Err(PyValueError::new_err(
            "at least one stride is negative, and PyTorch does not support that: use clone().torch()",
        ));
    }
    if !holds(this.dtype()) {
        return Err(PyTypeError::new_err(format!(
            "PyTorch has no elements of type {}",
            this.dtype()
        )));
    }
    let known = TORCH_TENSOR.look_up(py).is_some();
    if !known {
        py.import(intern!(py, "torch"))?;
    }
    let import = table(py)?.and_then(|table| table.managed_tensor_to_py_object_no_sync);
    let Some(import) = import.filter(|_| this.device().is_host()) else {
        return py
            .import(intern!(py, "torch"))?
            .call_method1(intern!(py, "from_dlpack"), (tensor,));
    };
    let exported = this.share_dlpack();
    let mut object = null_mut::<c_void>();
    // SAFETY: a struct of ours, with strides that torch survives, and room for an address. Where torch refuses it, it
    // does not release it (tried with 2.13), and nor do we: what is lost is better than what is freed twice.
    let status = unsafe { import(exported.into_raw().as_ptr(), &mut object) };
    if status != 0 {
        return Err(refused_by_torch(py));
    }
    // SAFETY: a new reference.
    unsafe { Bound::from_owned_ptr_or_err(py, object.cast()) }
}
