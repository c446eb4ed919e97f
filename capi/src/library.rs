//! What the library is: version and capabilities.

use std::ffi::{CStr, c_char};

/// Major version of this ABI. Another one means another SONAME; while it is 0, so does another minor.
pub const DLB_ABI_MAJOR: u32 = 0;
/// Minor version of this ABI: grows with every function or code that is added.
pub const DLB_ABI_MINOR: u32 = 2;

/// The library can copy to, from and between CUDA devices, where the machine has them.
pub const DLB_CAP_CUDA: u64 = 1;
/// Large copies use several threads.
pub const DLB_CAP_PARALLEL: u64 = 2;

/// Returns the version of the ABI that the library has: DLB_ABI_MAJOR << 16 | DLB_ABI_MINOR of its
/// header. A program fits a library of the same major version and the same or a greater minor one; while
/// the major version is 0, of just its own version.
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

/// Returns what this build of the library can do: bits of DLB_CAP_*. Functions are the same in every
/// build; one that this build has no code for returns DLB_ERROR_UNSUPPORTED.
///
/// Ownership: nothing changes hands.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_capabilities() -> u64 {
    let cuda = if cfg!(feature = "cuda") { DLB_CAP_CUDA } else { 0 };
    let parallel = if cfg!(feature = "parallel") { DLB_CAP_PARALLEL } else { 0 };
    cuda | parallel
}
