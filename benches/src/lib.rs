//! What dlbridge's benchmarks and tests compare with: libtorch called from C++ (the baseline), and
//! a non-temporal copy; and a stopwatch for several contenders.

mod nontemporal;
mod stopwatch;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use dlbridge::ffi::DLManagedTensorVersioned;
pub use nontemporal::copy_nontemporal;
pub use stopwatch::{Contender, median, race, race_in_rounds};

unsafe extern "C" {
    fn baseline_from_blob(
        data: *mut c_void,
        shape: *const i64,
        strides: *const i64,
        ndim: usize,
    ) -> *mut c_void;
    fn baseline_from_owner(
        data: *mut c_void,
        shape: *const i64,
        strides: *const i64,
        ndim: usize,
    ) -> *mut c_void;
    fn baseline_free(tensor: *mut c_void);
    fn baseline_consume(tensor: *mut c_void) -> *const c_void;
    fn baseline_from_dlpack(managed: *mut c_void) -> *mut c_void;
    fn baseline_clone(tensor: *const c_void, contiguous: bool) -> *mut c_void;
    fn hostile_tensor(name: *const c_char) -> *mut c_void;
    fn hostile_keys() -> c_int;
    fn hostile_key(index: c_int, window: bool, name: *mut *const c_char) -> *mut c_void;
}

/// An `at::Tensor` on the heap that C++ code made, and that C++ code frees.
pub struct Blob(*mut c_void);

impl Blob {
    /// A tensor of `f32` over memory at `data`, as C++ makes it: `at::for_blob().context()`.
    ///
    /// # Safety
    /// * The elements that `shape` and `strides` reach from `data` stay valid as long as the
    ///   result.
    pub unsafe fn new(data: *mut f32, shape: &[i64], strides: &[i64]) -> Self {
        let (sizes, steps) = (shape.as_ptr(), strides.as_ptr());
        // SAFETY: `sizes` and `steps` point to slices of this call; the caller guarantees that the
        // elements at `data` outlive the tensor.
        Self(unsafe { baseline_from_blob(data.cast(), sizes, steps, shape.len()) })
    }

    /// Same as `new`, with an owner on the heap that libtorch deletes with the tensor.
    ///
    /// # Safety
    /// * The elements that `shape` and `strides` reach from `data` stay valid as long as the
    ///   result.
    pub unsafe fn owned(data: *mut f32, shape: &[i64], strides: &[i64]) -> Self {
        let (sizes, steps) = (shape.as_ptr(), strides.as_ptr());
        // SAFETY: `sizes` and `steps` point to slices of this call; the caller guarantees that the
        // elements at `data` outlive the tensor.
        Self(unsafe { baseline_from_owner(data.cast(), sizes, steps, shape.len()) })
    }

    /// Exports the tensor through DLPack in C++, deletes it, and calls the deleter of the export.
    /// Returns the address that the export named.
    pub fn consume(self) -> *const c_void {
        // SAFETY: the pointer came from C++ code that made the tensor; `ManuallyDrop` keeps `drop`
        // from deleting it a second time.
        unsafe { baseline_consume(ManuallyDrop::new(self).0) }
    }

    /// `tensor.clone(memory_format)`, called from C++. The clone is contiguous if `contiguous` is
    /// true; otherwise it keeps the order of the strides.
    pub fn clone_of(tensor: &tch::Tensor, contiguous: bool) -> Self {
        // SAFETY: tch keeps a tensor as a pointer to an `at::Tensor` on the heap, and the reference
        // keeps that one alive during the call.
        Self(unsafe { baseline_clone(tensor.as_ptr().cast(), contiguous) })
    }

    /// Converts a DLPack struct with libtorch's own converter, which consumes it.
    ///
    /// # Safety
    /// * `managed` is valid, the caller owns it, and libtorch supports its type and strides.
    pub unsafe fn from_dlpack(managed: NonNull<DLManagedTensorVersioned>) -> Self {
        // SAFETY: the caller guarantees a valid struct that it owns; it is consumed here, once.
        Self(unsafe { baseline_from_dlpack(managed.as_ptr().cast()) })
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        // SAFETY: the pointer is an `at::Tensor` on the heap that only `self` owns.
        unsafe { baseline_free(self.0) };
    }
}

/// Takes a tensor of tch as C++ code would hold it.
impl From<tch::Tensor> for Blob {
    fn from(tensor: tch::Tensor) -> Self {
        Self(ManuallyDrop::new(tensor).as_mut_ptr().cast())
    }
}

/// Gives the tensor to tch.
impl From<Blob> for tch::Tensor {
    fn from(blob: Blob) -> Self {
        // SAFETY: tch keeps a tensor as a pointer to an `at::Tensor` on the heap, which this is;
        // `ManuallyDrop` leaves freeing it to tch.
        unsafe { Self::from_ptr(ManuallyDrop::new(blob).0.cast()) }
    }
}

/// A tensor that dlbridge must refuse or handle with care, by the name that `hostile.cpp` gives it;
/// `None` for an unknown name.
pub fn hostile(name: &str) -> Option<tch::Tensor> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a C string during the call; the result is a new `at::Tensor` or NULL.
    let tensor = NonNull::new(unsafe { hostile_tensor(name.as_ptr()) })?;
    // SAFETY: tch keeps a tensor as a pointer to an `at::Tensor` on the heap; this one has no other
    // owner.
    Some(unsafe { tch::Tensor::from_ptr(tensor.as_ptr().cast()) })
}

/// How many dispatch keys libtorch has: the arguments of [`with_key`] are smaller.
pub fn dispatch_keys() -> i32 {
    // SAFETY: returns a constant.
    unsafe { hostile_keys() }
}

/// A tensor of 3 by 4 numbers from 0 to 11, or a window of 2 by 2 of them, that has one dispatch
/// key beside those of an ordinary tensor, and the key's name.
pub fn with_key(index: i32, window: bool) -> (tch::Tensor, String) {
    let mut name = std::ptr::null();
    // SAFETY: `name` has room for a pointer; the result is a new `at::Tensor`.
    let tensor = unsafe { hostile_key(index, window, &raw mut name) };
    // SAFETY: `hostile_key` wrote a static C string.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    // SAFETY: tch keeps a tensor as a pointer to an `at::Tensor` on the heap; this one has no other
    // owner.
    (unsafe { tch::Tensor::from_ptr(tensor.cast()) }, name)
}
