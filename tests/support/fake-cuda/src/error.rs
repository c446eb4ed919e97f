//! The driver's result codes.

#![forbid(unsafe_code)]

use std::ffi::{CStr, c_int};

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

/// A code's name and description, as the driver spells them.
pub(crate) struct Description {
    code: Code,
    pub(crate) name: &'static CStr,
    pub(crate) text: &'static CStr,
}

const fn describe(code: Code, name: &'static CStr, text: &'static CStr) -> Description {
    Description { code, name, text }
}

/// The codes above, and those that only an injected failure returns.
#[rustfmt::skip]
static KNOWN: [Description; 16] = [
    describe(SUCCESS, c"CUDA_SUCCESS", c"no error"),
    describe(INVALID_VALUE, c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"),
    describe(OUT_OF_MEMORY, c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory"),
    describe(NOT_INITIALIZED, c"CUDA_ERROR_NOT_INITIALIZED", c"initialization error"),
    describe(NO_DEVICE, c"CUDA_ERROR_NO_DEVICE", c"no CUDA-capable device is detected"),
    describe(INVALID_DEVICE, c"CUDA_ERROR_INVALID_DEVICE", c"invalid device ordinal"),
    describe(INVALID_IMAGE, c"CUDA_ERROR_INVALID_IMAGE", c"device kernel image is invalid"),
    describe(INVALID_CONTEXT, c"CUDA_ERROR_INVALID_CONTEXT", c"invalid device context"),
    describe(218, c"CUDA_ERROR_INVALID_PTX", c"a PTX JIT compilation failed"),
    describe(INVALID_HANDLE, c"CUDA_ERROR_INVALID_HANDLE", c"invalid resource handle"),
    describe(NOT_FOUND, c"CUDA_ERROR_NOT_FOUND", c"named symbol not found"),
    describe(NOT_READY, c"CUDA_ERROR_NOT_READY", c"device not ready"),
    describe(700, c"CUDA_ERROR_ILLEGAL_ADDRESS", c"an illegal memory access was encountered"),
    describe(719, c"CUDA_ERROR_LAUNCH_FAILED", c"unspecified launch failure"),
    describe(
        CAPTURE_UNSUPPORTED,
        c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        c"operation not permitted when stream is capturing",
    ),
    describe(999, c"CUDA_ERROR_UNKNOWN", c"unknown error"),
];

/// The description of a code, if the driver has such a code.
pub(crate) fn description(code: Code) -> Option<&'static Description> {
    KNOWN.iter().find(|known| known.code == code)
}
