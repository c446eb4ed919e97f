//! The buffer protocol: `bytes`, `bytearray`, `memoryview`, `array.array`, `mmap` and others.

use std::ffi::CStr;

use dlbridge::{DType, Descriptor, Device, Layout, Tensor};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::byte_strides;
use crate::dtype;
use crate::error::buffer_error;
use crate::release::{BufferGuard, ensure_ready};

/// Shares the buffer that `object` exports.
pub(super) fn share(object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let guard = BufferGuard::new(object, ffi::PyBUF_FULL_RO)?;
    let view = guard.view();
    let dtype = element_type(view)?;
    let layout = layout_of(view, dtype)?;
    let descriptor = Descriptor::new(view.buf, layout, dtype, Device::CPU).map_err(buffer_error)?;
    let (len, nbytes) = (usize::try_from(view.len).unwrap_or(0), descriptor.nbytes());
    if nbytes > len {
        return Err(PyBufferError::new_err(format!(
            "the buffer has {len} bytes, and its elements have {nbytes}"
        )));
    }
    let writable = view.readonly == 0;
    // SAFETY: the owner must keep the memory that the descriptor describes: an exporter keeps the
    // memory of its view until the view is released, which dropping `guard` does.
    Ok(unsafe { Tensor::from_raw_parts(descriptor, writable, guard) })
}

fn element_type(view: &ffi::Py_buffer) -> PyResult<DType> {
    let itemsize = usize::try_from(view.itemsize).unwrap_or(0);
    let format = match view.format.is_null() {
        true => c"B",
        // SAFETY: the pointer must be that of a C string: the protocol says so of a format that is
        // not NULL, as long as the view is not released.
        false => unsafe { CStr::from_ptr(view.format) },
    };
    dtype::from_format(format.to_bytes(), itemsize).ok_or_else(|| {
        PyBufferError::new_err(format!(
            "DLPack has no type for elements of format '{}' and {itemsize} bytes",
            format.to_string_lossy()
        ))
    })
}

fn layout_of(view: &ffi::Py_buffer, dtype: DType) -> PyResult<Layout> {
    let rank = usize::try_from(view.ndim).unwrap_or(0);
    // SAFETY: there must be `rank` numbers, or NULL: the protocol says so of shape, strides and
    // suboffsets, as long as the view is not released.
    let numbers = |start: *mut isize| unsafe { numbers(start, rank) };
    if numbers(view.suboffsets).is_some_and(|offsets| offsets.iter().any(|&offset| offset >= 0)) {
        return Err(PyBufferError::new_err(
            "the buffer has suboffsets, which DLPack does not support",
        ));
    }
    // A view without a shape is one-dimensional.
    let row = [view.len / view.itemsize];
    let shape = numbers(view.shape).unwrap_or(if rank == 1 { &row } else { &[] });
    if let Some(strides) = numbers(view.strides) {
        let layout = byte_strides::to_layout(shape, strides, dtype, view.itemsize as i64)?;
        return layout.ok_or_else(|| PyBufferError::new_err(byte_strides::UNEVEN));
    }
    byte_strides::contiguous(shape, dtype, view.itemsize as i64)
}

/// The `count` numbers at `start`; `None` if there are none, or `start` is NULL.
///
/// # Safety
/// * `start` is NULL or points to `count` numbers that do not change during `'a`.
unsafe fn numbers<'a>(start: *const isize, count: usize) -> Option<&'a [isize]> {
    if count == 0 {
        return None;
    }
    // SAFETY: `start` must point to `count` numbers: this function's contract says so, as it is not
    // NULL.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start, count) })
}

/// Shares the bytes that `object` exports as a tensor of `dtype` and `layout`. The first element
/// begins `offset` bytes after the first byte; without an `offset`, the lowest element is at the
/// first byte.
pub(crate) fn from_bytes(
    object: &Bound<'_, PyAny>,
    dtype: DType,
    padded: bool,
    layout: Layout,
    offset: Option<usize>,
) -> PyResult<Tensor> {
    ensure_ready(object.py())?;
    let guard = BufferGuard::new(object, ffi::PyBUF_SIMPLE)?;
    let view = guard.view();
    let describe = |start| {
        let descriptor = Descriptor::new(start, layout.clone(), dtype, Device::CPU)?;
        if padded { descriptor.padded() } else { Ok(descriptor) }
    };
    let at_start = describe(view.buf).map_err(buffer_error)?;
    let before_first = view.buf.addr().wrapping_sub(at_start.span().0.addr());
    let first = view.buf.wrapping_byte_add(offset.unwrap_or(before_first));
    let descriptor = describe(first).map_err(buffer_error)?;
    let (low, bytes) = descriptor.span();
    let skipped = low.addr().checked_sub(view.buf.addr());
    let end = skipped.and_then(|skipped| skipped.checked_add(bytes));
    let len = usize::try_from(view.len).unwrap_or(0);
    if bytes > 0 && end.is_none_or(|end| end > len) {
        return Err(PyValueError::new_err(format!("{len} bytes are fewer than the elements need")));
    }
    let writable = view.readonly == 0;
    // SAFETY: the owner must keep the memory that the descriptor describes: the span was checked to
    // be within the view, whose memory the exporter keeps until dropping `guard` releases it.
    Ok(unsafe { Tensor::from_raw_parts(descriptor, writable, guard) })
}
