//! The exchange table of `dlbridge.Tensor`: how C code of other libraries gets a tensor without a
//! capsule.
//!
//! The table lives as long as the process. Its functions are called attached to the interpreter,
//! except for the allocator and the stream, which do not use Python.

use std::ffi::{CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use dlbridge::ffi::{
    DLDataType, DLDeviceType, DLManagedTensorVersioned, DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION,
    DLPackExchangeAPI, DLPackExchangeAPIHeader, DLPackVersion, DLTensor,
};
use dlbridge::{DType, Device, Error, Layout, Tensor};
use pyo3::Borrowed;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::error::{buffer_error, set_panic_error, text};
use crate::export_policy::{
    StrideClass, negative_strides, rust_may_view, share_read_only, viewed_error,
};
use crate::tensor_object::TensorObject;
use crate::tensor_source::TensorSource;
use crate::torch_owner::check_owner_address;

/// The table of a class. The class of a borrowed tensor must own it.
const fn table<S: TensorSource>() -> DLPackExchangeAPI {
    DLPackExchangeAPI {
        header: DLPackExchangeAPIHeader {
            version: DLPackVersion { major: DLPACK_MAJOR_VERSION, minor: DLPACK_MINOR_VERSION },
            prev_api: std::ptr::null_mut(),
        },
        managed_tensor_allocator: Some(allocate),
        managed_tensor_from_py_object_no_sync: Some(managed_from_object::<S>),
        managed_tensor_to_py_object_no_sync: Some(object_from_managed),
        dltensor_from_py_object_no_sync: if S::OWNS {
            Some(borrowed_from_object::<S>)
        } else {
            None
        },
        current_work_stream: Some(current_stream),
    }
}

/// The capsule that the class publishes as `__dlpack_c_exchange_api__`.
pub(crate) fn capsule<S: TensorSource>(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let table: &'static DLPackExchangeAPI = const { &table::<S>() };
    let table = std::ptr::from_ref(table).cast_mut().cast::<c_void>();
    // SAFETY: the pointer must not be NULL, and the name must outlive the capsule: both are those
    // of constants that live as long as the process.
    let capsule = unsafe { ffi::PyCapsule_New(table, c"dlpack_exchange_api".as_ptr(), None) };
    // SAFETY: the pointer must be a new reference, or NULL with an exception set: `PyCapsule_New`
    // returns that.
    unsafe { Bound::from_owned_ptr_or_err(py, capsule) }
}

/// Runs a function of the table. Returns 0, or -1 with an exception set, also if `run` panics.
fn guarded(run: impl FnOnce(Python<'_>) -> PyResult<()>) -> c_int {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // PyO3 defers releases unless it knows that the thread is attached.
        // SAFETY: the thread must be attached: the table's contract demands it of the caller.
        let returned =
            unsafe { Python::attach_unchecked(|py| run(py).map_err(|error| error.restore(py))) };
        if returned.is_ok() { 0 } else { -1 }
    }));
    outcome.unwrap_or_else(|payload| {
        // Dropping the payload may panic again.
        std::mem::forget(payload);
        set_panic_error();
        -1
    })
}

/// Calls `work` with the tensor of `object`. The type of the object is checked, although the
/// table's contract demands an object of the class that the table belongs to.
fn with_tensor_of<S: TensorSource>(
    py: Python<'_>,
    object: *mut c_void,
    work: impl FnOnce(&Tensor) -> PyResult<()>,
) -> PyResult<()> {
    // SAFETY: the pointer must be NULL or that of a live object: the table's contract demands it of
    // the caller.
    let object = unsafe { Borrowed::from_ptr_or_opt(py, object.cast()) };
    let object = object.ok_or_else(|| PyTypeError::new_err("the pointer to the tensor is NULL"))?;
    S::with_tensor(object, work)
}

unsafe extern "C" fn managed_from_object<S: TensorSource>(
    object: *mut c_void,
    out: *mut *mut DLManagedTensorVersioned,
) -> c_int {
    let export = |py: Python<'_>, tensor: &Tensor| {
        check_owner_address(py, tensor)?;
        if rust_may_view(tensor) {
            return Err(viewed_error());
        }
        let exported = match StrideClass::of(tensor) {
            StrideClass::Positive => tensor.share_dlpack(),
            StrideClass::Broadcast => share_read_only(tensor).share_dlpack(),
            // Not a copy, because writes of the caller would not reach the tensor.
            StrideClass::Negative => return Err(negative_strides(tensor)),
        };
        // SAFETY: `out` must be writable: the table's contract demands it of the caller.
        unsafe { out.write(exported.into_raw().as_ptr()) };
        Ok(())
    };
    guarded(|py| with_tensor_of::<S>(py, object, |tensor| export(py, tensor)))
}

unsafe extern "C" fn borrowed_from_object<S: TensorSource>(
    object: *mut c_void,
    out: *mut DLTensor,
) -> c_int {
    let export = |py: Python<'_>, tensor: &Tensor| {
        check_owner_address(py, tensor)?;
        match StrideClass::of(tensor) {
            StrideClass::Negative => return Err(negative_strides(tensor)),
            StrideClass::Positive if !tensor.is_shared_read_only() => {}
            _ => {
                return Err(PyBufferError::new_err(
                    "the memory is read-only, which a borrowed DLTensor can't say: pass a clone()",
                ));
            }
        }
        // SAFETY: `out` must be writable: the table's contract demands it of the caller, who also
        // keeps the object alive while it uses the struct. The object owns the tensor (`S::OWNS`).
        unsafe { out.write(tensor.as_dl_tensor()) };
        Ok(())
    };
    guarded(|py| with_tensor_of::<S>(py, object, |tensor| export(py, tensor)))
}

unsafe extern "C" fn object_from_managed(
    managed: *mut DLManagedTensorVersioned,
    out: *mut *mut c_void,
) -> c_int {
    guarded(|py| {
        let managed = NonNull::new(managed)
            .ok_or_else(|| PyBufferError::new_err("the pointer to the DLPack struct is NULL"))?;
        // SAFETY: `managed` must be a valid struct that nothing else owns: the table's contract
        // demands it of the caller. If the struct is refused, it is released. No Rust view of the
        // memory is made in this crate.
        let tensor = unsafe { Tensor::from_dlpack(managed) }.map_err(buffer_error)?;
        let object = TensorObject::new(tensor).into_bound(py)?;
        // SAFETY: `out` must be writable: the table's contract demands it of the caller.
        unsafe { out.write(object.into_ptr().cast()) };
        Ok(())
    })
}

type SetError = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char);

unsafe extern "C" fn allocate(
    prototype: *mut DLTensor,
    out: *mut *mut DLManagedTensorVersioned,
    error_context: *mut c_void,
    set_error: Option<SetError>,
) -> c_int {
    // SAFETY: `prototype` must point to a tensor: the table's contract demands it of the caller.
    let prototype = unsafe { *prototype };
    let allocated = catch_unwind(|| {
        // SAFETY: the shape must have as many numbers as there are dimensions: the table's contract
        // demands it of the caller.
        unsafe { zeros_like(prototype) }.map(Tensor::into_dlpack)
    });
    let (class, message) = match allocated {
        Ok(Ok(exported)) => {
            // SAFETY: `out` must be writable: the table's contract demands it of the caller.
            unsafe { out.write(exported.into_raw().as_ptr()) };
            return 0;
        }
        Ok(Err(error @ Error::OutOfMemory { .. })) => (c"MemoryError", text(&error)),
        Ok(Err(error)) => (c"BufferError", text(&error)),
        Err(payload) => {
            // Dropping the payload may panic again.
            std::mem::forget(payload);
            (c"RuntimeError", "dlbridge panicked: this is a bug".to_owned())
        }
    };
    let message = CString::new(message).unwrap_or_default();
    if let Some(set_error) = set_error {
        // SAFETY: the function must be called with its context and two C strings: the caller passed
        // both function and context.
        unsafe { set_error(error_context, class.as_ptr(), message.as_ptr()) };
    }
    -1
}

/// A new tensor of the shape, element type and device of `prototype`. Its other fields are not
/// read.
///
/// # Safety
/// * `prototype.shape` points to `prototype.ndim` numbers.
unsafe fn zeros_like(mut prototype: DLTensor) -> Result<Tensor, Error> {
    prototype.strides = std::ptr::null_mut();
    // SAFETY: the shape must have as many numbers as there are dimensions, as this function's
    // contract says; there are no strides.
    let layout = unsafe { Layout::from_dl_tensor(&prototype) }?;
    let device_type = prototype.device.device_type.cast_signed();
    let device = Device { device_type, index: prototype.device.device_id };
    if !device.is_host() {
        return Err(Error::UnsupportedDevice { device, target: "new memory" });
    }
    let DLDataType { code, bits, lanes } = prototype.dtype;
    Tensor::zeros_with(layout, DType { code, bits, lanes })
}

/// Exports are ready on the default stream of every device.
unsafe extern "C" fn current_stream(_: DLDeviceType, _: i32, out: *mut *mut c_void) -> c_int {
    // SAFETY: `out` must be writable: the table's contract demands it of the caller.
    unsafe { out.write(std::ptr::null_mut()) };
    0
}
