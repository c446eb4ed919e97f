//! The driver's result codes.

use std::ffi::{CStr, c_char, c_int};

use crate::driver::{Out, free_call};

pub(crate) type Code = c_int;

pub(crate) const SUCCESS: Code = 0;
pub(crate) const INVALID_VALUE: Code = 1;
pub(crate) const OUT_OF_MEMORY: Code = 2;
pub(crate) const NOT_INITIALIZED: Code = 3;
pub(crate) const NO_DEVICE: Code = 100;
pub(crate) const INVALID_DEVICE: Code = 101;
pub(crate) const INVALID_IMAGE: Code = 200;
pub(crate) const INVALID_CONTEXT: Code = 201;
pub(crate) const INVALID_HANDLE: Code = 400;
pub(crate) const NOT_FOUND: Code = 500;
pub(crate) const NOT_READY: Code = 600;
pub(crate) const CAPTURE_UNSUPPORTED: Code = 900;

/// Names and descriptions; also of codes that only an injected failure gives.
#[rustfmt::skip]
const KNOWN: [(Code, &CStr, &CStr); 16] = [
    (SUCCESS, c"CUDA_SUCCESS", c"no error"),
    (INVALID_VALUE, c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"),
    (OUT_OF_MEMORY, c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory"),
    (NOT_INITIALIZED, c"CUDA_ERROR_NOT_INITIALIZED", c"initialization error"),
    (NO_DEVICE, c"CUDA_ERROR_NO_DEVICE", c"no CUDA-capable device is detected"),
    (INVALID_DEVICE, c"CUDA_ERROR_INVALID_DEVICE", c"invalid device ordinal"),
    (INVALID_IMAGE, c"CUDA_ERROR_INVALID_IMAGE", c"device kernel image is invalid"),
    (INVALID_CONTEXT, c"CUDA_ERROR_INVALID_CONTEXT", c"invalid device context"),
    (218, c"CUDA_ERROR_INVALID_PTX", c"a PTX JIT compilation failed"),
    (INVALID_HANDLE, c"CUDA_ERROR_INVALID_HANDLE", c"invalid resource handle"),
    (NOT_FOUND, c"CUDA_ERROR_NOT_FOUND", c"named symbol not found"),
    (NOT_READY, c"CUDA_ERROR_NOT_READY", c"device not ready"),
    (700, c"CUDA_ERROR_ILLEGAL_ADDRESS", c"an illegal memory access was encountered"),
    (719, c"CUDA_ERROR_LAUNCH_FAILED", c"unspecified launch failure"),
    (CAPTURE_UNSUPPORTED, c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", c"operation not permitted when stream is capturing"),
    (999, c"CUDA_ERROR_UNKNOWN", c"unknown error"),
];

fn text(
    call: &'static str,
    code: Code,
    out: Out<*const c_char>,
    of: fn(&(Code, &CStr, &CStr)) -> *const c_char,
) -> Code {
    free_call(call, format_args!("code={code}"), |_| {
        let out = out.ok_or(INVALID_VALUE)?;
        let known = KNOWN.iter().find(|known| known.0 == code);
        out.write(known.map_or(std::ptr::null(), of));
        known.map(|_| ()).ok_or(INVALID_VALUE)
    })
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuGetErrorName(code: Code, out: Out<*const c_char>) -> Code {
    text("cuGetErrorName", code, out, |known| known.1.as_ptr())
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuGetErrorString(code: Code, out: Out<*const c_char>) -> Code {
    text("cuGetErrorString", code, out, |known| known.2.as_ptr())
}
