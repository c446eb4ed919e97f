//! The buffer protocol: `bytes`, `bytearray`, `memoryview`, `array.array`, `mmap` and others.

use std::ffi::CStr;

use dlbridge::{DType, Descriptor, Device, Layout, Tensor};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::dtype;
use crate::error::buffer_error;
use crate::layout;
use crate::owner::BufferGuard;

/// Shares what an object lends.
pub(crate) fn share(object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let guard = BufferGuard::new(object, ffi::PyBUF_FULL_RO)?;
    let view = guard.view();
    let itemsize = usize::try_from(view.itemsize).unwrap_or(0);
    let format = match view.format.is_null() {
        true => c"B",
        // SAFETY: a string of the view's.
        false => unsafe { CStr::from_ptr(view.format) },
    };
    let dtype = dtype::from_format(format.to_bytes(), itemsize).ok_or_else(|| {
        PyBufferError::new_err(format!(
            "DLPack has no type for elements of format '{}' and {itemsize} bytes",
            format.to_string_lossy()
        ))
    })?;
    let rank = usize::try_from(view.ndim).unwrap_or(0);
    // SAFETY: as many numbers as there are dimensions, unless NULL.
    let numbers = |start: *mut isize| unsafe { numbers(start, rank) };
    if numbers(view.suboffsets).is_some_and(|offsets| offsets.iter().any(|&offset| offset >= 0)) {
        return Err(PyBufferError::new_err(
            "DLPack has no way to say that memory is reached through pointers",
        ));
    }
    // Without a shape it is a row of elements.
    let row = [view.len / view.itemsize];
    let shape = numbers(view.shape).unwrap_or(if rank == 1 { &row } else { &[] });
    let layout = match numbers(view.strides) {
        Some(strides) => {
            let layout = layout::of_bytes(shape, strides, view.itemsize as i64)?;
            layout.ok_or_else(|| PyBufferError::new_err(layout::UNEVEN))?
        }
        None => {
            let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
            Layout::contiguous(&shape).map_err(buffer_error)?
        }
    };
    let descriptor = Descriptor::new(view.buf, layout, dtype, Device::CPU).map_err(buffer_error)?;
    let writable = view.readonly == 0;
    // SAFETY: the object keeps the memory as it said, until it is given back.
    Ok(unsafe { Tensor::from_raw_parts(descriptor, writable, guard) })
}

/// # Safety
/// * `start` is NULL or leads to `count` numbers that stay as they are for `'a`.
unsafe fn numbers<'a>(start: *const isize, count: usize) -> Option<&'a [isize]> {
    if count == 0 {
        return None;
    }
    // SAFETY: the caller's promise.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start, count) })
}

/// Sees the bytes that an object lends as a tensor of this type and layout, whose first element comes after so
/// many bytes, or, when nobody says, whose lowest element comes first.
pub(crate) fn from_bytes(
    object: &Bound<'_, PyAny>,
    dtype: DType,
    padded: bool,
    layout: Layout,
    offset: Option<usize>,
) -> PyResult<Tensor> {
    let guard = BufferGuard::new(object, ffi::PyBUF_SIMPLE)?;
    let view = guard.view();
    let described = |start| {
        let descriptor = Descriptor::new(start, layout.clone(), dtype, Device::CPU)?;
        if padded { descriptor.padded() } else { Ok(descriptor) }
    };
    let first = described(view.buf).map_err(buffer_error)?;
    let before = view.buf.addr().wrapping_sub(first.span().0.addr());
    let descriptor =
        described(view.buf.wrapping_byte_add(offset.unwrap_or(before))).map_err(buffer_error)?;
    let (low, bytes) = descriptor.span();
    let skipped = low.addr().checked_sub(view.buf.addr());
    let end = skipped.and_then(|skipped| skipped.checked_add(bytes));
    let len = usize::try_from(view.len).unwrap_or(0);
    if bytes > 0 && end.is_none_or(|end| end > len) {
        return Err(PyValueError::new_err(format!("{len} bytes do not hold all elements")));
    }
    let writable = view.readonly == 0;
    // SAFETY: the object keeps the memory as it said, until it is given back; all elements are within it.
    Ok(unsafe { Tensor::from_raw_parts(descriptor, writable, guard) })
}
