//! Calls of functions that can fail.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use capi::error::{
    DLB_ERROR_NULL_POINTER, DLB_ERROR_PANIC, DLB_OK, dlb_error, dlb_error_free, dlb_error_message,
    dlb_error_status, dlb_status, dlb_status_name,
};

use crate::input::Input;

pub(super) type ErrorOut<'a> = Option<&'a mut MaybeUninit<*mut dlb_error>>;
pub(super) type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// The status of a call, whose error object is looked at and freed.
pub(super) fn status(
    input: &mut Input<'_>,
    call: impl FnOnce(ErrorOut<'_>) -> dlb_status,
) -> dlb_status {
    if input.seldom(8) {
        return call(None);
    }
    let untouched = NonNull::dangling().as_ptr();
    let mut error = MaybeUninit::new(untouched);
    let status = call(Some(&mut error));
    // SAFETY: initialised above.
    let error = unsafe { error.assume_init() };
    assert_ne!(status, DLB_ERROR_PANIC, "a bug in the library");
    if status == DLB_OK {
        assert_eq!(error, untouched, "a call that succeeded wrote an error");
        return status;
    }
    // SAFETY: the library wrote an error object.
    let shared = unsafe { &*error };
    assert_eq!(dlb_error_status(Some(shared)), status);
    // SAFETY: the message is valid until the error is freed.
    let message = unsafe { CStr::from_ptr(dlb_error_message(Some(shared))) };
    assert!(!message.to_str().expect("UTF-8").is_empty());
    // SAFETY: a static text.
    let name = unsafe { CStr::from_ptr(dlb_status_name(status)) };
    assert_ne!(name, c"DLB_ERROR_UNKNOWN");
    // SAFETY: the library made the box, which the harness owns.
    dlb_error_free(Some(unsafe { Box::from_raw(error) }));
    status
}

/// What a call wrote to its out-parameter, or the status of its failure. At times there is no
/// out-parameter.
pub(super) fn output<T: Copy + PartialEq + std::fmt::Debug>(
    input: &mut Input<'_>,
    untouched: T,
    call: impl FnOnce(Out<'_, T>, ErrorOut<'_>) -> dlb_status,
) -> Result<T, dlb_status> {
    if input.seldom(32) {
        let status = status(input, |error| call(None, error));
        assert_eq!(status, DLB_ERROR_NULL_POINTER);
        return Err(status);
    }
    let mut out = MaybeUninit::new(untouched);
    let status = status(input, |error| call(Some(&mut out), error));
    // SAFETY: initialised above.
    let out = unsafe { out.assume_init() };
    if status == DLB_OK {
        return Ok(out);
    }
    assert_eq!(out, untouched, "a call that failed wrote its out-parameter");
    Err(status)
}

/// A new object of a call that may fail.
pub(super) fn new_object<T>(
    input: &mut Input<'_>,
    call: impl FnOnce(Out<'_, NonNull<T>>, ErrorOut<'_>) -> dlb_status,
) -> Result<NonNull<T>, dlb_status> {
    output(input, NonNull::dangling(), call)
}
