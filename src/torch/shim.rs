//! Calls of the C++ part, `shim.cpp`.

use std::ffi::{CStr, c_char};

use super::bindings::{dlb_torch_free_message, dlb_torch_tensor};
use crate::{Error, Result};

/// Turns a message of the shim into an error and frees it.
#[inline]
pub(super) fn check(message: *mut c_char) -> Result<()> {
    if message.is_null() { Ok(()) } else { Err(failure(message)) }
}

#[cold]
fn failure(message: *mut c_char) -> Error {
    // SAFETY: a message of the shim is a C string, which lives until it is freed below.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: the shim returned the message, which is freed once, here.
    unsafe { dlb_torch_free_message(message) };
    Error::Libtorch(text)
}

/// Calls a function of the shim that makes a tensor.
#[inline]
pub(super) fn make(
    call: impl FnOnce(*mut *mut dlb_torch_tensor) -> *mut c_char,
) -> Result<tch::Tensor> {
    let mut tensor = std::ptr::null_mut();
    check(call(&raw mut tensor))?;
    // SAFETY: on success the shim made a new `at::Tensor` and gave it to us.
    Ok(unsafe { tch::Tensor::from_ptr(tensor.cast()) })
}

pub(super) fn handle(tensor: &tch::Tensor) -> *const dlb_torch_tensor {
    tensor.as_ptr().cast()
}
