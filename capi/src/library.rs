//! What the library is: version and capabilities.

use std::ffi::{CStr, c_char};

/// Major version of this ABI. Each has its own SONAME; while it is 0, so has each minor version.
pub const DLB_ABI_MAJOR: u32 = 0;
/// Minor version of this ABI. It grows with every function or code that is added.
pub const DLB_ABI_MINOR: u32 = 2;

/// The library can copy to, from and between the CUDA devices of the machine.
pub const DLB_CAP_CUDA: u64 = 1;
/// Large copies use several threads.
pub const DLB_CAP_PARALLEL: u64 = 2;

/// Returns the version of the library's ABI: DLB_ABI_MAJOR << 16 | DLB_ABI_MINOR of its header. A
/// program can use a library of the same major version and the same or a greater minor version;
/// while the major version is 0, only a library of its own version.
///
/// Ownership: nothing changes hands.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_abi_version() -> u32 {
    DLB_ABI_MAJOR << 16 | DLB_ABI_MINOR
}

/// Returns the version of the library, such as "0.1.0".
///
/// Ownership: returns a static view.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version has no NUL in it"),
        };
    VERSION.as_ptr()
}

/// Returns what this build of the library can do: bits of DLB_CAP_*. Every build has the same
/// functions; a function whose code is not compiled in returns DLB_ERROR_UNSUPPORTED.
///
/// Ownership: nothing changes hands.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_capabilities() -> u64 {
    let cuda = if cfg!(feature = "cuda") { DLB_CAP_CUDA } else { 0 };
    let parallel = if cfg!(feature = "parallel") { DLB_CAP_PARALLEL } else { 0 };
    cuda | parallel
}
