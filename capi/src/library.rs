//! What the library is: version and capabilities.

use std::ffi::{CStr, c_char};

/// Major version of this ABI. Each major version has a SONAME of its own; while it is 0, each minor
/// version has one too.
pub const DLB_ABI_MAJOR: u32 = 0;
/// Minor version of this ABI. It grows with every function or code that is added.
pub const DLB_ABI_MINOR: u32 = 4;

/// This build can copy to, from and between the CUDA devices of the machine.
pub const DLB_CAP_CUDA: u64 = 1;
/// Large copies use several threads.
pub const DLB_CAP_PARALLEL: u64 = 2;

/// Returns the version of the library's ABI: DLB_ABI_MAJOR << 16 | DLB_ABI_MINOR of its header. A
/// program can use a library of the same major version and the same or a greater minor version;
/// while the major version is 0, it can use only a library of the same major and minor version.
///
/// Ownership: none.
///
/// Example of the functions for versions and capabilities:
///
/// ```c
/// uint32_t abi = dlb_abi_version();
/// assert(abi == (DLB_ABI_MAJOR << 16 | DLB_ABI_MINOR)); // else the library fits another header
/// printf("dlbridge %s, ABI %u.%u\n", dlb_version(), (unsigned)abi >> 16, (unsigned)abi & 0xffff);
/// printf("copies to and from CUDA: %s\n", dlb_capabilities() & DLB_CAP_CUDA ? "yes" : "no");
/// ```
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
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_capabilities() -> u64 {
    let cuda = if cfg!(feature = "cuda") { DLB_CAP_CUDA } else { 0 };
    let parallel = if cfg!(feature = "parallel") { DLB_CAP_PARALLEL } else { 0 };
    cuda | parallel
}
