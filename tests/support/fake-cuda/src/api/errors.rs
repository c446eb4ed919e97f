//! Names and descriptions of result codes.

use std::ffi::c_char;
use std::ptr;

use crate::call::{Out, call_without_context};
use crate::error::{Code, Description, INVALID_VALUE, description};

fn describe(
    call: &'static str,
    code: Code,
    out: Out<*const c_char>,
    field: fn(&Description) -> *const c_char,
) -> Code {
    call_without_context(call, format_args!("code={code}"), |_| {
        let out = out.ok_or(INVALID_VALUE)?;
        let found = description(code);
        out.write(found.map_or(ptr::null(), field));
        found.map(|_| ()).ok_or(INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuGetErrorName(code: Code, out: Out<*const c_char>) -> Code {
    describe("cuGetErrorName", code, out, |found| found.name.as_ptr())
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuGetErrorString(code: Code, out: Out<*const c_char>) -> Code {
    describe("cuGetErrorString", code, out, |found| found.text.as_ptr())
}
