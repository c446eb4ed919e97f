//! The buffer protocol, from the side that lends.

use std::ffi::c_int;
use std::ptr::{NonNull, null_mut};

use dlbridge::{DType, Layout, Tensor};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::dtype;
use crate::export::is_read_only;
use crate::tensor::PyTensor;

/// Shape and strides as the protocol wants them, kept until the view is given back.
struct Numbers {
    shape: Box<[isize]>,
    strides: Box<[isize]>,
}

/// Fills a view in.
///
/// # Safety
/// * `view` is NULL or has room for a view.
pub(crate) unsafe fn lend(
    tensor: &Bound<'_, PyTensor>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let refuse = |reason: &str| PyBufferError::new_err(reason.to_owned());
    let Some(mut view) = NonNull::new(view) else {
        return Err(refuse("there is no view to fill in"));
    };
    // SAFETY: the caller's promise.
    let view = unsafe { view.as_mut() };
    view.obj = null_mut();
    let this = tensor.get().tensor();
    let wants = |flag: c_int| flags & flag == flag;
    if !this.device().is_host() {
        return Err(refuse(&format!("the memory is on {}: use Tensor.cpu() first", this.device())));
    }
    if wants(ffi::PyBUF_WRITABLE) && is_read_only(this) {
        return Err(refuse("the memory is read-only"));
    }
    let dtype = this.dtype();
    let format = dtype::format(dtype);
    let (Some(itemsize), true) = (dtype.itemsize(), format.is_some() || !wants(ffi::PyBUF_FORMAT))
    else {
        return Err(refuse(&format!("the buffer protocol has no elements of type {dtype}")));
    };
    let row_major = this.is_contiguous();
    let column_major = || is_column_major(this.layout());
    let fits = if wants(ffi::PyBUF_C_CONTIGUOUS) || !wants(ffi::PyBUF_STRIDES) {
        row_major
    } else if wants(ffi::PyBUF_F_CONTIGUOUS) {
        column_major()
    } else {
        !wants(ffi::PyBUF_ANY_CONTIGUOUS) || row_major || column_major()
    };
    if !fits {
        return Err(refuse("the elements do not lie one after the other in the order asked for"));
    }
    // Elements that share memory may be more than memory could hold.
    let Ok(len) = isize::try_from(this.nbytes()) else {
        return Err(refuse("the elements are more than the buffer protocol can count"));
    };
    // The protocol counts in isize, as this machine does.
    let shape: Box<[isize]> = this.shape().iter().map(|&size| size as isize).collect();
    let strides = this
        .strides()
        .iter()
        .map(|&step| (step as isize).wrapping_mul(itemsize as isize))
        .collect();
    let numbers = Box::new(Numbers { shape, strides });
    view.buf = this.data_ptr();
    view.len = len;
    view.readonly = c_int::from(is_read_only(this));
    view.itemsize = itemsize as isize;
    view.format = format
        .filter(|_| wants(ffi::PyBUF_FORMAT))
        .map_or(null_mut(), |code| code.as_ptr().cast_mut());
    view.ndim =
        if wants(ffi::PyBUF_ND) { c_int::try_from(this.ndim()).unwrap_or(c_int::MAX) } else { 1 };
    view.shape = if wants(ffi::PyBUF_ND) { numbers.shape.as_ptr().cast_mut() } else { null_mut() };
    view.strides =
        if wants(ffi::PyBUF_STRIDES) { numbers.strides.as_ptr().cast_mut() } else { null_mut() };
    view.suboffsets = null_mut();
    view.internal = Box::into_raw(numbers).cast();
    view.obj = tensor.clone().into_any().into_ptr();
    Ok(())
}

/// A memoryview of an object.
pub(crate) fn view<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a live object.
    let view = unsafe { ffi::PyMemoryView_FromObject(object.as_ptr()) };
    // SAFETY: a new reference, or NULL with an exception.
    unsafe { Bound::from_owned_ptr_or_err(object.py(), view) }
}

/// Takes a view back.
///
/// # Safety
/// * `view` was filled in by [`lend`], and is given back once.
pub(crate) unsafe fn take_back(view: *mut ffi::Py_buffer) {
    // SAFETY: the caller's promise.
    let numbers = unsafe { (*view).internal }.cast::<Numbers>();
    if !numbers.is_null() {
        // SAFETY: `lend` put a box there.
        drop(unsafe { Box::from_raw(numbers) });
    }
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

/// The elements as plain bytes, if they lie one after the other in some order: the lowest first.
pub(crate) fn bytes_of(tensor: &Tensor) -> Option<Tensor> {
    let (start, bytes) = tensor.descriptor().span();
    if bytes != tensor.nbytes() || tensor.layout().overlaps() {
        return None;
    }
    let layout = Layout::contiguous(&[i64::try_from(bytes).ok()?]).ok()?;
    let descriptor =
        dlbridge::Descriptor::new(start.cast(), layout, DType::U8, tensor.device()).ok()?;
    // SAFETY: the tensor's own bytes, which it keeps; there are none between elements.
    Some(unsafe { Tensor::from_raw_parts(descriptor, !is_read_only(tensor), tensor.share()) })
}
