//! The buffer in which the memory of a NumPy array lies.
//!
//! An array that was made over a buffer, by `numpy.ndarray(shape, buffer=shared.buf)` for example,
//! holds a reference to the buffer's exporter, but no view of it. So the exporter may release the
//! memory under the array. A tensor holds a view: then the exporter refuses, as `mmap.close` and
//! `bytearray.clear` do. The view keeps the memory, so the array itself is not held.

use std::ffi::c_void;
use std::ptr::null_mut;

use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::error::caused_by;
use crate::known_types::NDARRAY;
use crate::release::BufferGuard;

/// The attribute `base` of `numpy.ndarray`, looked up once.
struct BaseAttribute {
    descriptor: Py<PyAny>,
    /// The function that reads the descriptor.
    get: ffi::descrgetfunc,
}

static BASE: PyOnceLock<BaseAttribute> = PyOnceLock::new();

impl BaseAttribute {
    fn look_up(py: Python<'_>) -> PyResult<Self> {
        let missing = || PyTypeError::new_err("numpy.ndarray has no attribute 'base'");
        let (class, _) = NDARRAY.look_up(py).ok_or_else(missing)?;
        // C code defines the descriptor, so reading it from the class gives the descriptor itself.
        let descriptor = class.getattr(intern!(py, "base"))?;
        // SAFETY: the class must be alive, as that of a `Bound` is.
        let get = unsafe {
            ffi::PyType_GetSlot(descriptor.get_type().as_type_ptr(), ffi::Py_tp_descr_get)
        };
        // SAFETY: the pointer must be NULL or that of a function of this type: the slot
        // `tp_descr_get` is defined so.
        let get = unsafe { std::mem::transmute::<*mut c_void, Option<ffi::descrgetfunc>>(get) };
        Ok(Self { descriptor: descriptor.unbind(), get: get.ok_or_else(missing)? })
    }

    /// The base of `array`, which must be an `ndarray`.
    #[inline]
    fn of<'py>(&self, array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the function must be called with its own descriptor and an object of the class
        // that has it: `look_up` stored both, and `array` is an `ndarray`.
        let base = unsafe { (self.get)(self.descriptor.as_ptr(), array.as_ptr(), null_mut()) };
        // SAFETY: the pointer must be a new reference, or NULL with an exception set:
        // `tp_descr_get` returns that.
        unsafe { Bound::from_owned_ptr_or_err(array.py(), base) }
    }
}

/// Bytes in memory: the address of the first, and how many.
pub(super) type Span = (usize, usize);

/// The bytes from the lowest to the highest element; `None` if they are more than memory can hold.
/// `strides` are in bytes.
pub(super) fn span(
    first: usize,
    shape: &[isize],
    strides: &[isize],
    itemsize: usize,
) -> Option<Span> {
    let (mut before, mut after) = (0_usize, 0_usize);
    for (&size, &stride) in shape.iter().zip(strides) {
        if size <= 0 {
            return Some((first, 0));
        }
        let reach = stride.unsigned_abs().checked_mul(size.unsigned_abs() - 1)?;
        let side = if stride < 0 { &mut before } else { &mut after };
        *side = side.checked_add(reach)?;
    }
    let bytes = before.checked_add(after)?.checked_add(itemsize)?;
    Some((first.checked_sub(before)?, bytes))
}

/// A view of the buffer in which the memory of `array` lies, an `ndarray` whose elements take the
/// bytes `elements`. `None` if there is no such buffer, or its exporter keeps the memory as long as
/// it lives.
#[inline]
pub(super) fn hold(array: &Bound<'_, PyAny>, elements: Span) -> PyResult<Option<BufferGuard>> {
    let attribute = BASE.get_or_try_init(array.py(), || BaseAttribute::look_up(array.py()))?;
    let mut base = attribute.of(array)?;
    while !base.is_none() {
        if !NDARRAY.is_type_of(&base) {
            return hold_exporter(&base, elements);
        }
        base = attribute.of(&base)?;
    }
    Ok(None)
}

#[cold]
fn hold_exporter(exporter: &Bound<'_, PyAny>, elements: Span) -> PyResult<Option<BufferGuard>> {
    let class = exporter.get_type();
    // An exporter that is not told when a view is released cannot wait for it, so it keeps its
    // memory as long as it lives.
    // SAFETY: the class must be alive, as that of a `Bound` is.
    if unsafe { ffi::PyType_GetSlot(class.as_type_ptr(), ffi::Py_bf_releasebuffer) }.is_null() {
        return Ok(None);
    }
    let released = |cause: Option<PyErr>| {
        let name = class.fully_qualified_name().map_or_else(|_| "buffer".into(), |n| n.to_string());
        let error = PyBufferError::new_err(format!(
            "the array's memory is gone: the {name} that it was made over has released it"
        ));
        match cause {
            Some(cause) => caused_by(exporter.py(), error, cause),
            None => error,
        }
    };
    let guard = match BufferGuard::new(exporter, ffi::PyBUF_STRIDES) {
        Ok(guard) => guard,
        Err(error) if error.is_instance_of::<PyValueError>(exporter.py()) => {
            return Err(released(Some(error)));
        }
        // The exporter has no view of this kind.
        Err(_) => return Ok(None),
    };
    let Some((start, len)) = span_of(guard.view()) else { return Ok(None) };
    let (low, bytes) = elements;
    let end = low.checked_sub(start).and_then(|before| before.checked_add(bytes));
    if bytes > 0 && end.is_none_or(|end| end > len) {
        return Err(released(None));
    }
    Ok(Some(guard))
}

/// The bytes from the lowest to the highest element of a view that has shape and strides.
fn span_of(view: &ffi::Py_buffer) -> Option<Span> {
    let rank = usize::try_from(view.ndim).ok()?;
    if rank == 0 {
        return Some((view.buf.addr(), usize::try_from(view.len).ok()?));
    }
    if view.shape.is_null() || view.strides.is_null() {
        return None;
    }
    // SAFETY: there must be `rank` sizes: the buffer protocol says so of a view whose shape is not
    // NULL, until it is released.
    let shape = unsafe { std::slice::from_raw_parts(view.shape, rank) };
    // SAFETY: there must be `rank` strides: the buffer protocol says so of a view whose strides are
    // not NULL, until it is released.
    let strides = unsafe { std::slice::from_raw_parts(view.strides, rank) };
    span(view.buf.addr(), shape, strides, usize::try_from(view.itemsize).ok()?)
}
