//! Our own exchange table: how C code of other libraries reaches a tensor without a capsule.
//!
//! The table lives as long as the process. Its functions are called attached to the interpreter, except
//! for the allocator and the stream, which touch no Python.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::NonNull;

use dlbridge::ffi::{
    DLDeviceType, DLManagedTensorVersioned, DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION,
    DLPackExchangeAPI, DLPackExchangeAPIHeader, DLPackVersion, DLTensor,
};
use dlbridge::{DType, Error, Layout, Tensor};
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::error::buffer_error;
use crate::export::{StrideClass, is_read_only, read_only, reversed};
use crate::owner::raise_panic;
use crate::tensor::PyTensor;

struct Table(DLPackExchangeAPI);

// SAFETY: constant addresses of functions.
unsafe impl Sync for Table {}

static TABLE: Table = Table(DLPackExchangeAPI {
    header: DLPackExchangeAPIHeader {
        version: DLPackVersion { major: DLPACK_MAJOR_VERSION, minor: DLPACK_MINOR_VERSION },
        prev_api: std::ptr::null_mut(),
    },
    managed_tensor_allocator: Some(allocate),
    managed_tensor_from_py_object_no_sync: Some(managed_from_object),
    managed_tensor_to_py_object_no_sync: Some(object_from_managed),
    dltensor_from_py_object_no_sync: Some(borrowed_from_object),
    current_work_stream: Some(current_stream),
});

/// The capsule that the class publishes.
pub(crate) fn capsule(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let table = (&raw const TABLE.0).cast_mut().cast::<c_void>();
    // SAFETY: an address and a name that live for ever.
    let capsule = unsafe { ffi::PyCapsule_New(table, c"dlpack_exchange_api".as_ptr(), None) };
    // SAFETY: a new reference, or NULL with an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, capsule) }
}

/// Runs a function of the table: 0, or −1 with an exception set. No panic leaves.
fn guarded(run: impl FnOnce(Python<'_>) -> PyResult<()>) -> c_int {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        // SAFETY: attached, by the table's contract. PyO3 is told, or it would put off what it releases.
        unsafe {
            Python::attach_unchecked(|py| match run(py) {
                Ok(()) => 0,
                Err(error) => {
                    error.restore(py);
                    -1
                }
            })
        }
    }));
    outcome.unwrap_or_else(|payload| {
        std::mem::forget(payload);
        raise_panic();
        -1
    })
}

/// The tensor that an object is. Asks first, although the contract promises it.
fn tensor_of<'py>(py: Python<'py>, object: *mut c_void) -> PyResult<Bound<'py, PyTensor>> {
    // SAFETY: the contract promises a live object, or it is NULL.
    let object = unsafe { Bound::from_borrowed_ptr_or_opt(py, object.cast()) };
    let object = object.ok_or_else(|| PyTypeError::new_err("there is no tensor"))?;
    Ok(object.cast_into::<PyTensor>()?)
}

unsafe extern "C" fn managed_from_object(
    object: *mut c_void,
    out: *mut *mut DLManagedTensorVersioned,
) -> c_int {
    guarded(|py| {
        let tensor = tensor_of(py, object)?;
        let tensor = tensor.get().tensor();
        let exported = match StrideClass::of(tensor) {
            StrideClass::Ordinary => tensor.share_dlpack(),
            StrideClass::Broadcast => read_only(tensor).share_dlpack(),
            // A copy would take from the caller what is written to it.
            StrideClass::Reversed => return Err(reversed(tensor)),
        };
        // SAFETY: the caller has room for an address there.
        unsafe { out.write(exported.into_raw().as_ptr()) };
        Ok(())
    })
}

unsafe extern "C" fn borrowed_from_object(object: *mut c_void, out: *mut DLTensor) -> c_int {
    guarded(|py| {
        let tensor = tensor_of(py, object)?;
        let tensor = tensor.get().tensor();
        match StrideClass::of(tensor) {
            StrideClass::Reversed => return Err(reversed(tensor)),
            StrideClass::Ordinary if !is_read_only(tensor) => {}
            _ => {
                return Err(PyBufferError::new_err(
                    "the memory is read-only, which a borrowed DLTensor can't say: pass a clone()",
                ));
            }
        }
        // SAFETY: the caller has room for a tensor there, and the object keeps what it points to.
        unsafe { out.write(tensor.as_dl_tensor()) };
        Ok(())
    })
}

unsafe extern "C" fn object_from_managed(
    managed: *mut DLManagedTensorVersioned,
    out: *mut *mut c_void,
) -> c_int {
    guarded(|py| {
        let managed = NonNull::new(managed).ok_or_else(|| PyBufferError::new_err("no tensor"))?;
        // SAFETY: the contract hands a valid struct over, for good: it is released if it is refused. No Rust view is
        // ever made here.
        let tensor = unsafe { Tensor::from_dlpack(managed) }.map_err(buffer_error)?;
        let object = PyTensor::new(tensor).into_bound(py)?;
        // SAFETY: the caller has room for an address there.
        unsafe { out.write(object.into_ptr().cast()) };
        Ok(())
    })
}

unsafe extern "C" fn allocate(
    prototype: *mut DLTensor,
    out: *mut *mut DLManagedTensorVersioned,
    error_context: *mut c_void,
    set_error: Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char)>,
) -> c_int {
    let allocated = std::panic::catch_unwind(|| {
        // SAFETY: the caller's prototype, of which shape, type and device count.
        let mut wanted = unsafe { *prototype };
        wanted.strides = std::ptr::null_mut();
        // SAFETY: its shape has as many numbers as it has dimensions.
        let layout = unsafe { Layout::from_dl_tensor(&wanted) }?;
        let device = dlbridge::Device {
            device_type: wanted.device.device_type.cast_signed(),
            index: wanted.device.device_id,
        };
        if !device.is_host() {
            return Err(Error::UnsupportedDevice { device, target: "new memory" });
        }
        let dtype =
            DType { code: wanted.dtype.code, bits: wanted.dtype.bits, lanes: wanted.dtype.lanes };
        Ok(Tensor::zeros_with(layout, dtype)?.into_dlpack())
    });
    let (kind, message) = match allocated {
        Ok(Ok(exported)) => {
            // SAFETY: the caller has room for an address there.
            unsafe { out.write(exported.into_raw().as_ptr()) };
            return 0;
        }
        Ok(Err(error)) => (
            if matches!(error, Error::OutOfMemory { .. }) {
                c"MemoryError"
            } else {
                c"BufferError"
            },
            error.to_string(),
        ),
        Err(payload) => {
            std::mem::forget(payload);
            (c"RuntimeError", "dlbridge panicked: this is a bug".to_owned())
        }
    };
    let message = CString::new(message).unwrap_or_default();
    if let Some(set_error) = set_error {
        // SAFETY: the caller's function and context, and two strings.
        unsafe { set_error(error_context, kind.as_ptr(), message.as_ptr()) };
    }
    -1
}

/// Work is ordered on the default stream of every device.
unsafe extern "C" fn current_stream(
    _kind: DLDeviceType,
    _index: i32,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: the caller has room for an address there.
    unsafe { out.write(std::ptr::null_mut()) };
    0
}
