//! PyTorch tensors, without linking libtorch: through the exchange table of `torch.Tensor`.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use dlbridge::ffi::{DLPackExchangeAPI, DLTensor, kDLCUDA};
use dlbridge::{Descriptor, Device, Stream, Tensor};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::protocol::{self, Request};
use super::torch_checks::{
    Purpose, Refusal, TensorClass, TorchChecks, no_memory_error, refuse_sub_byte,
    without_torch_function,
};
use crate::error::buffer_error;
use crate::known_types::{TORCH_READ_ONLY, TORCH_TENSOR};
use crate::torch_objects::torch_objects;
use crate::torch_owner::{Place, TorchOwner};
use crate::torch_table::{torch_error, torch_table};

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
#[inline(always)] // `from_dlpack` calls it for each tensor; `share_derived` calls it seldom
pub(super) fn share(tensor: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    share_checked(tensor, TensorClass::Exact, true)
}

#[inline(always)] // for the same reason as `share`
fn share_checked(
    tensor: &Bound<'_, PyAny>,
    class: TensorClass,
    writable: bool,
) -> PyResult<Option<Tensor>> {
    let py = tensor.py();
    let Some(table) = torch_table(py)? else { return Ok(None) };
    let Some(describe) = table.dltensor_from_py_object_no_sync else { return Ok(None) };
    let checks = TorchChecks::get(py)?;
    checks.refuse_unless_plain(tensor, class)?;
    let storage = checks.storage(tensor, class)?;
    let (elements, type_is_certain) = match describe_on_host(tensor, class) {
        Some(elements) => (elements, true),
        None => (describe_tensor(describe, tensor)?, false),
    };
    let device = elements.device();
    if !device.is_host() && device != Device::cuda(device.index) {
        return Ok(None);
    }
    storage.refuse_outside(&elements)?;
    let dtype = elements.dtype();
    if !type_is_certain && dtype.bits == 8 && dtype.code < 2 {
        refuse_sub_byte(tensor)?;
    }
    let place = Place { address: elements.data_ptr().addr(), size: storage.size };
    let owner = TorchOwner::new(tensor.clone(), storage.object, place);
    // SAFETY: the owner must keep the elements, which may be written if `writable`: they lie within
    // the storage, as was checked, and the owner holds the storage. PyTorch may free the memory of
    // a storage that others hold; the owner tells whether it did. Python code that moves or writes
    // the memory during a copy races, as it does with every other library.
    let shared = unsafe { Tensor::from_movable_parts(elements, writable, owner) };
    if !shared.device().is_host() && !wait_current_stream(py, table, &shared) {
        return Ok(None);
    }
    Ok(Some(shared))
}

/// The elements of a tensor on the host, without PyTorch's table. `None` if only the table can
/// describe them.
#[inline(always)] // a descriptor is large
fn describe_on_host(tensor: &Bound<'_, PyAny>, class: TensorClass) -> Option<Descriptor> {
    if class != TensorClass::Exact {
        return None;
    }
    let objects = torch_objects(tensor.py())?;
    // SAFETY: the object must be a `torch.Tensor`, which the callers of `share_checked` checked,
    // and the thread attached, as a `Bound` proves.
    unsafe { objects.elements(tensor.as_unbound()) }
}

type DescribeTensor = unsafe extern "C" fn(*mut c_void, *mut DLTensor) -> c_int;

/// The description of `tensor` by PyTorch's table. It does not keep the memory alive.
#[inline]
fn describe_tensor(describe: DescribeTensor, tensor: &Bound<'_, PyAny>) -> PyResult<Descriptor> {
    let mut shown = MaybeUninit::<DLTensor>::uninit();
    // SAFETY: the function must be called attached, with an object of the table's class and an
    // address to write to: `tensor` is a `torch.Tensor`, and `shown` is writable.
    if unsafe { describe(tensor.as_ptr().cast::<c_void>(), shown.as_mut_ptr()) } != 0 {
        return Err(torch_error(tensor.py()));
    }
    // SAFETY: the struct must be written: the function does so when it returns 0.
    let shown = unsafe { shown.assume_init_ref() };
    // SAFETY: shape and strides must have as many numbers as there are dimensions: the table's
    // contract says so, until Python code runs, and none does in this call.
    unsafe { Descriptor::from_dl_tensor(shown, 0) }
        .map_err(|error| if shown.data.is_null() { no_memory_error() } else { buffer_error(error) })
}

/// Shares the memory of a tensor that PyTorch just returned, through the table if it has one.
#[cold]
pub(crate) fn receive(tensor: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    if TORCH_TENSOR.is_exact_type_of(tensor)
        && let Some(shared) = share(tensor)?
    {
        return Ok(shared);
    }
    if TORCH_TENSOR.is_type_of(tensor) {
        return share_derived(tensor, Request::default());
    }
    protocol::share(tensor, Request::default())
}

/// Shares the memory of a tensor of a derived class, or of a PyTorch without a table.
///
/// A class with its own `__dlpack__` or `__torch_function__` may export other memory than its
/// tensor's, so its `__dlpack__` is called. That of other classes is not called, and neither is
/// that of PyTorch's own `ReadOnlyTensorWrapper`, whose memory is shared as read-only memory.
#[cold]
pub(super) fn share_derived(tensor: &Bound<'_, PyAny>, request: Request) -> PyResult<Tensor> {
    let py = tensor.py();
    let class = tensor.get_type();
    let Some((base, _)) = TORCH_TENSOR.look_up(py) else {
        return protocol::share(tensor, request);
    };
    let checks = TorchChecks::get(py)?;
    // It has the tensor's memory. Its `__dlpack__` exports elements with the wrong sign.
    let is_read_only =
        TORCH_READ_ONLY.look_up(py).is_some() && TORCH_READ_ONLY.is_exact_type_of(tensor);
    if is_read_only
        && let Some(shared) =
            without_torch_function(py, || share_checked(tensor, TensorClass::Derived, false))?
    {
        return Ok(shared);
    }
    let dlpack = intern!(py, "__dlpack__");
    if !class.getattr(dlpack)?.is(&base.getattr(dlpack)?) {
        let shared = protocol::share(tensor, request)?;
        if describes(tensor, &shared)? {
            let found = without_torch_function(py, || {
                checks.refusal_without_gradient(tensor, TensorClass::Derived)
            })?;
            if let Some(refusal) = found {
                return Err(refusal.error(Purpose::Share));
            }
        }
        return Ok(shared);
    }
    without_torch_function(py, || {
        checks.refuse_unless_plain(tensor, TensorClass::Derived)?;
        refuse_sub_byte(tensor)
    })?;
    if !has_torch_function(&class, &base)?
        && let Some(shared) =
            without_torch_function(py, || share_checked(tensor, TensorClass::Derived, true))?
    {
        return Ok(shared);
    }
    let shared = protocol::share(tensor, request)?;
    if describes(tensor, &shared)? {
        without_torch_function(py, || {
            checks.storage(tensor, TensorClass::Derived)?.refuse_outside(shared.descriptor())
        })?;
    }
    Ok(shared)
}

/// Whether `shared` has the memory that PyTorch itself describes for `tensor`, on the host.
fn describes(tensor: &Bound<'_, PyAny>, shared: &Tensor) -> PyResult<bool> {
    let table = torch_table(tensor.py())?;
    let describe = table.and_then(|table| table.dltensor_from_py_object_no_sync);
    let Some(describe) = describe.filter(|_| shared.device().is_host()) else { return Ok(false) };
    let elements = describe_tensor(describe, tensor);
    Ok(elements.is_ok_and(|elements| elements.data_ptr() == shared.data_ptr()))
}

/// Why a `torch.Tensor` is not a plain strided buffer; `None` if it is one.
#[cold]
pub(super) fn refusal(tensor: &Bound<'_, PyAny>) -> PyResult<Option<Refusal>> {
    let exact = TORCH_TENSOR.is_exact_type_of(tensor);
    let class = if exact { TensorClass::Exact } else { TensorClass::Derived };
    let checks = TorchChecks::get(tensor.py())?;
    without_torch_function(tensor.py(), || checks.refusal(tensor, class))
}

/// Whether a class derived from `base`, which is `torch.Tensor`, has a `__torch_function__` of its
/// own, to which PyTorch hands its calls.
fn has_torch_function(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    let own = torch_function(class)?;
    let disabled = py.import("torch._C")?.getattr("_disabled_torch_function_impl")?;
    Ok(!own.is(&torch_function(base)?) && !own.is(&disabled))
}

fn torch_function<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let function = class.getattr(intern!(class.py(), "__torch_function__"))?;
    // Each read of a class method gives a new object, so the functions below it are compared.
    Ok(function.getattr_opt(intern!(class.py(), "__func__"))?.unwrap_or(function))
}
