//! DLPack's structs in Python's capsules.
//! <https://dmlc.github.io/dlpack/latest/python_spec.html>

use std::ffi::CStr;
use std::ptr::NonNull;

use dlbridge::ffi::{DLManagedTensor, DLManagedTensorVersioned};
use dlbridge::{Exported, ManagedStruct, Rejected, Tensor};

/// A struct that capsules hold, and the two names of such a capsule. The name tells who releases
/// the struct; it must live as long as any capsule.
pub(crate) trait CapsuleStruct: ManagedStruct {
    /// The name while the capsule owns the struct.
    const NAME: &'static CStr;
    /// The name once a consumer owns the struct.
    const USED_NAME: &'static CStr;

    /// Imports the struct.
    ///
    /// # Safety
    /// * As for `Tensor::from_dlpack`.
    unsafe fn consume(raw: NonNull<Self>) -> Result<Tensor, Rejected<Exported<Self>>>;

    /// The struct's deleter.
    ///
    /// # Safety
    /// * `this` points to a valid struct.
    unsafe fn deleter_of(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)>;
}

impl CapsuleStruct for DLManagedTensorVersioned {
    const NAME: &'static CStr = c"dltensor_versioned";
    const USED_NAME: &'static CStr = c"used_dltensor_versioned";

    unsafe fn consume(raw: NonNull<Self>) -> Result<Tensor, Rejected<Exported<Self>>> {
        // SAFETY: `raw` must meet the contract of `from_dlpack`, as this function's contract says.
        unsafe { Tensor::from_dlpack(raw) }
    }

    unsafe fn deleter_of(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)> {
        // SAFETY: `this` must point to a valid struct, as this function's contract says.
        unsafe { (*this).deleter }
    }
}

impl CapsuleStruct for DLManagedTensor {
    const NAME: &'static CStr = c"dltensor";
    const USED_NAME: &'static CStr = c"used_dltensor";

    unsafe fn consume(raw: NonNull<Self>) -> Result<Tensor, Rejected<Exported<Self>>> {
        // SAFETY: `raw` must meet the contract of `from_dlpack_legacy`, which is that of
        // `from_dlpack`, as this function's contract says.
        unsafe { Tensor::from_dlpack_legacy(raw) }
    }

    unsafe fn deleter_of(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)> {
        // SAFETY: `this` must point to a valid struct, as this function's contract says.
        unsafe { (*this).deleter }
    }
}
