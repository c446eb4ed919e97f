//! The other side, for dlbridge's tests and benchmarks: libtorch called from C++, and a stopwatch
//! that measures contenders in turns.

mod stopwatch;

use std::ffi::{CString, c_char, c_void};
use std::ptr::NonNull;

use dlbridge::ffi::DLManagedTensorVersioned;
pub use stopwatch::{Contender, race};

unsafe extern "C" {
    fn baseline_from_blob(data: *mut c_void, shape: *const i64, strides: *const i64, ndim: usize) -> *mut c_void;
    fn baseline_from_owner(data: *mut c_void, shape: *const i64, strides: *const i64, ndim: usize)
    -> *mut c_void;
    fn baseline_free(tensor: *mut c_void);
    fn baseline_consume(tensor: *mut c_void) -> *const c_void;
    fn baseline_from_dlpack(managed: *mut c_void) -> *mut c_void;
    fn baseline_clone(tensor: *const c_void, contiguous: bool) -> *mut c_void;
    fn baseline_make(name: *const c_char) -> *mut c_void;
}

/// A heap-allocated `at::Tensor` that C++ code made, freed by C++ code.
pub struct Blob(*mut c_void);

impl Blob {
    /// What C++ does to see memory as a tensor of `f32`: `for_blob().context()`.
    ///
    /// # Safety
    /// * The elements stay valid as long as the result.
    pub unsafe fn new(data: *mut f32, shape: &[i64], strides: &[i64]) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { baseline_from_blob(data.cast(), shape.as_ptr(), strides.as_ptr(), shape.len()) })
    }

    /// The same with an owner on the heap.
    ///
    /// # Safety
    /// * The elements stay valid as long as the result.
    pub unsafe fn owned(data: *mut f32, shape: &[i64], strides: &[i64]) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { baseline_from_owner(data.cast(), shape.as_ptr(), strides.as_ptr(), shape.len()) })
    }

    /// What C++ does to take the memory out: another owner by DLPack, the tensor gone, the owner gone.
    pub fn consume(self) -> *const c_void {
        // SAFETY: a tensor of ours, consumed once.
        unsafe { baseline_consume(std::mem::ManuallyDrop::new(self).0) }
    }

    /// What `tensor.clone(memory_format)` gives in C++, of a tensor of tch's: laid out as that is, or
    /// contiguous.
    pub fn clone_of(tensor: &tch::Tensor, contiguous: bool) -> Self {
        // SAFETY: a tensor that lives; tch keeps it as an `at::Tensor` on the heap.
        Self(unsafe { baseline_clone(tensor.as_ptr().cast(), contiguous) })
    }

    /// What libtorch's own converter makes of a DLPack struct.
    ///
    /// # Safety
    /// * The struct is valid, owned by the caller, and one that libtorch can take.
    pub unsafe fn from_dlpack(managed: NonNull<DLManagedTensorVersioned>) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { baseline_from_dlpack(managed.as_ptr().cast()) })
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        // SAFETY: made by C++, freed once.
        unsafe { baseline_free(self.0) };
    }
}

/// Wraps a tensor of tch's as C++ code would hold it.
impl From<tch::Tensor> for Blob {
    fn from(tensor: tch::Tensor) -> Self {
        Self(std::mem::ManuallyDrop::new(tensor).as_mut_ptr().cast())
    }
}

/// Hands the tensor to tch.
impl From<Blob> for tch::Tensor {
    fn from(blob: Blob) -> Self {
        // SAFETY: an `at::Tensor` on the heap, which is what tch keeps; it is freed there from now on.
        unsafe { Self::from_ptr(std::mem::ManuallyDrop::new(blob).0.cast()) }
    }
}

/// A tensor that dlbridge must refuse, by the name that `baseline.cpp` gives it.
pub fn hostile(name: &str) -> Option<tch::Tensor> {
    let name = CString::new(name).ok()?;
    // SAFETY: a C string; the result is a new `at::Tensor` or NULL.
    let tensor = NonNull::new(unsafe { baseline_make(name.as_ptr()) })?;
    // SAFETY: tch keeps tensors in just this way.
    Some(unsafe { tch::Tensor::from_ptr(tensor.as_ptr().cast()) })
}
