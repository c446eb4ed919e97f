//! The exchange table that `torch.Tensor` publishes: PyTorch's functions for C, without linking
//! libtorch.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use dlbridge::ffi::{DLPackExchangeAPI, DLPackExchangeAPIHeader};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use crate::error::caused_by;
use crate::known_types::TORCH_TENSOR;

/// The table of `torch.Tensor`, or NULL until it is looked up. A table lives as long as the
/// process.
static TABLE: AtomicPtr<DLPackExchangeAPI> = AtomicPtr::new(null_mut());

/// The exchange table of `torch.Tensor`. `None` for a PyTorch that publishes none of major version
/// 1.
#[inline]
pub(crate) fn torch_table(py: Python<'_>) -> PyResult<Option<&'static DLPackExchangeAPI>> {
    let known = TABLE.load(Ordering::Acquire);
    if !known.is_null() {
        // SAFETY: the pointer must be that of a table that is never freed: `find_table` stored it,
        // and DLPack demands that a published table lives as long as the process.
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
    // SAFETY: the object must be alive, as a `Bound` is; if it is no capsule of this name, the
    // result is NULL, with an exception.
    let start =
        unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), c"dlpack_exchange_api".as_ptr()) };
    if start.is_null() {
        return Err(PyErr::fetch(py));
    }
    let mut header = start.cast::<DLPackExchangeAPIHeader>();
    while !header.is_null() {
        // SAFETY: the pointer must be that of a header: the capsule holds a table, which begins
        // with one, and `prev_api` points to an older table or is NULL.
        let DLPackExchangeAPIHeader { version, prev_api } = unsafe { *header };
        if version.major == 1 {
            TABLE.store(header.cast(), Ordering::Release);
            // SAFETY: the pointer must be that of a table: a header of major version 1 begins one.
            return Ok(Some(unsafe { &*header.cast() }));
        }
        header = prev_api;
    }
    Ok(None)
}

/// The exception that a function of the table set, as a `BufferError` without its C++ backtrace.
#[cold]
pub(crate) fn torch_error(py: Python<'_>) -> PyErr {
    let cause = PyErr::fetch(py);
    let text = cause.value(py).to_string();
    caused_by(py, PyBufferError::new_err(text.lines().next().unwrap_or_default().to_owned()), cause)
}
