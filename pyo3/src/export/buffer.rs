//! Exports a tensor through the buffer protocol.

use std::ffi::{CStr, c_int};
use std::ptr::{NonNull, null_mut};

use dlbridge::{Layout, Tensor};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::dtype;
use crate::tensor_object::TensorObject;
use crate::torch_owner::check_owner_address;

/// Shape, and strides in bytes, to which a view points until it is released.
struct ViewNumbers {
    shape: Box<[isize]>,
    strides: Box<[isize]>,
}

impl ViewNumbers {
    fn of(tensor: &Tensor, itemsize: usize) -> Self {
        let in_bytes = |&stride: &i64| (stride as isize).wrapping_mul(itemsize as isize);
        Self {
            shape: tensor.shape().iter().map(|&size| size as isize).collect(),
            strides: tensor.strides().iter().map(in_bytes).collect(),
        }
    }
}

/// The flags of the buffer protocol that a consumer passes.
#[derive(Clone, Copy)]
struct ViewFlags(c_int);

impl ViewFlags {
    fn has(self, flag: c_int) -> bool {
        self.0 & flag == flag
    }

    /// Whether the elements of `tensor` lie as the consumer asks for.
    fn accept_layout_of(self, tensor: &Tensor) -> bool {
        let row_major = tensor.is_contiguous();
        let column_major = || is_column_major(tensor.layout());
        if self.has(ffi::PyBUF_C_CONTIGUOUS) || !self.has(ffi::PyBUF_STRIDES) {
            row_major
        } else if self.has(ffi::PyBUF_F_CONTIGUOUS) {
            column_major()
        } else {
            !self.has(ffi::PyBUF_ANY_CONTIGUOUS) || row_major || column_major()
        }
    }
}

/// Fills in `view` with the memory of `tensor`, as `flags` asks for it: `__getbuffer__`.
///
/// # Safety
/// * `view` is NULL or points to a view that may be written.
pub(crate) unsafe fn fill_view(
    tensor: &Bound<'_, TensorObject>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let flags = ViewFlags(flags);
    let Some(mut view) = NonNull::new(view) else {
        return Err(refused("there is no view to fill in"));
    };
    // SAFETY: `view` must point to a view that nothing else uses meanwhile: this function's
    // contract says so, as it is not NULL.
    let view = unsafe { view.as_mut() };
    view.obj = null_mut();
    let this = tensor.get().tensor();
    check_owner_address(tensor.py(), this)?;
    let (itemsize, format) = check(this, flags)?;
    // The elements of a broadcast tensor may be more than memory can hold.
    let Ok(len) = isize::try_from(this.nbytes()) else {
        return Err(refused("the elements are more than the buffer protocol can count"));
    };
    // A view without a shape has 0 dimensions, as NumPy's have, and a view of 0 dimensions has
    // neither a shape nor strides: the protocol demands NULL there.
    let rank = if flags.has(ffi::PyBUF_ND) { this.ndim() } else { 0 };
    let rank = c_int::try_from(rank).unwrap_or(c_int::MAX);
    let numbers = (rank > 0).then(|| Box::new(ViewNumbers::of(this, itemsize)));
    let start = |numbers: &[isize]| numbers.as_ptr().cast_mut();
    let shape = numbers.as_ref().map_or(null_mut(), |numbers| start(&numbers.shape));
    let strides = numbers.as_ref().filter(|_| flags.has(ffi::PyBUF_STRIDES));
    let strides = strides.map_or(null_mut(), |numbers| start(&numbers.strides));
    let format = format.filter(|_| flags.has(ffi::PyBUF_FORMAT));
    view.buf = this.data_ptr();
    view.len = len;
    view.readonly = c_int::from(this.is_shared_read_only());
    view.itemsize = itemsize as isize;
    view.format = format.map_or(null_mut(), |format| format.as_ptr().cast_mut());
    view.ndim = rank;
    view.shape = shape;
    view.strides = strides;
    view.suboffsets = null_mut();
    view.internal = numbers.map_or(null_mut(), |numbers| Box::into_raw(numbers).cast());
    view.obj = tensor.clone().into_any().into_ptr();
    Ok(())
}

/// Checks that a view of `tensor` can be what `flags` ask for. Returns size and format of an
/// element; the format may be missing if the consumer does not ask for it.
fn check(tensor: &Tensor, flags: ViewFlags) -> PyResult<(usize, Option<&'static CStr>)> {
    if !tensor.device().is_host() {
        let device = tensor.device();
        return Err(refused(&format!("the memory is on {device}: use Tensor.cpu() first")));
    }
    if flags.has(ffi::PyBUF_WRITABLE) && tensor.is_shared_read_only() {
        return Err(refused("the memory is read-only"));
    }
    let dtype = tensor.dtype();
    let format = dtype::format(dtype);
    let has_format = format.is_some() || !flags.has(ffi::PyBUF_FORMAT);
    // Elements of less than a byte take a byte each if they are padded. Otherwise only bytes that
    // have no shape can be shown.
    let in_bytes = tensor.descriptor().is_padded() || !flags.has(ffi::PyBUF_ND);
    let itemsize = dtype.itemsize().or(in_bytes.then_some(1));
    let Some(itemsize) = itemsize.filter(|_| has_format) else {
        return Err(refused(&format!(
            "the buffer protocol has no elements of type {dtype}: bytes(tensor) gives their bytes"
        )));
    };
    if !flags.accept_layout_of(tensor) {
        return Err(refused("the elements do not lie one after the other in the order asked for"));
    }
    Ok((itemsize, format))
}

#[cold]
fn refused(reason: &str) -> PyErr {
    PyBufferError::new_err(reason.to_owned())
}

/// Frees what [`fill_view`] allocated: `__releasebuffer__`.
///
/// # Safety
/// * `view` was filled in by [`fill_view`], and is released once.
pub(crate) unsafe fn release_view(view: *mut ffi::Py_buffer) {
    // SAFETY: `view` must point to a view: this function's contract says so.
    let numbers = unsafe { (*view).internal }.cast::<ViewNumbers>();
    if !numbers.is_null() {
        // SAFETY: the pointer must come from `Box::into_raw`, and be used once: `fill_view` stored
        // it, and the view is released once.
        drop(unsafe { Box::from_raw(numbers) });
    }
}

/// A memoryview of `object`.
pub(crate) fn memoryview<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the object must be alive, as a `Bound` is.
    let view = unsafe { ffi::PyMemoryView_FromObject(object.as_ptr()) };
    // SAFETY: the pointer must be a new reference, or NULL with an exception set:
    // `PyMemoryView_FromObject` returns that.
    unsafe { Bound::from_owned_ptr_or_err(object.py(), view) }
}

fn is_column_major(layout: &Layout) -> bool {
    let mut expected = 1_i64;
    layout.is_empty()
        || layout.shape().iter().zip(layout.strides()).all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected = expected.wrapping_mul(size);
            fits
        })
}
