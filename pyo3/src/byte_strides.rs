//! Strides in bytes, as NumPy and the buffer protocol have them.

#![forbid(unsafe_code)]

use dlbridge::{DType, Error, Layout};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

use crate::error::{buffer_error, tuple};

/// The error message for strides that are not a multiple of the element size.
pub(crate) const UNEVEN: &str = "DLPack only supports strides which are a multiple of itemsize: use array.copy(), or \
     dlbridge.tensor(array), which copies";

/// Maximum rank for which the conversion allocates nothing.
const INLINE_RANK: usize = 8;

/// Converts strides in bytes to a layout, whose strides are in elements of `dtype`, each of
/// `itemsize` bytes. `None` if a stride is not a multiple of `itemsize`.
#[inline(always)] // a layout is large: inlined, it is written where it is needed
pub(crate) fn to_layout(
    shape: &[isize],
    strides: &[isize],
    dtype: DType,
    itemsize: i64,
) -> PyResult<Option<Layout>> {
    if shape.len() != strides.len() {
        return Err(PyBufferError::new_err("there must be as many strides as dimensions"));
    }
    let mut inline = [0_i64; 2 * INLINE_RANK];
    let mut heap = Vec::new();
    let rank = shape.len();
    let numbers = if rank <= INLINE_RANK {
        &mut inline[..2 * rank]
    } else {
        heap.resize(2 * rank, 0);
        &mut heap[..]
    };
    let (sizes, steps) = numbers.split_at_mut(rank);
    let given = shape.iter().zip(strides);
    // A division takes several times as long as a shift.
    let shifts = itemsize.count_ones() == 1;
    for ((size, step), (&shown, &bytes)) in sizes.iter_mut().zip(steps.iter_mut()).zip(given) {
        let bytes = bytes as i64;
        let elements = if shifts { bytes >> itemsize.trailing_zeros() } else { bytes / itemsize };
        (*size, *step) = (shown as i64, elements);
        // The stride of a dimension of size 0 or 1 has no meaning.
        if *step * itemsize != bytes && *size > 1 {
            return Ok(None);
        }
    }
    Layout::new(sizes, steps).map(Some).map_err(|error| layout_error(error, dtype, itemsize))
}

/// The row-major layout of a shape for elements of `dtype`, each of `itemsize` bytes.
pub(crate) fn contiguous(shape: &[isize], dtype: DType, itemsize: i64) -> PyResult<Layout> {
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    Layout::contiguous(&shape).map_err(|error| layout_error(error, dtype, itemsize))
}

/// The exception for a layout that does not fit the address space. A layout has no element type, so
/// its error cannot name it.
#[cold]
fn layout_error(error: Error, dtype: DType, itemsize: i64) -> PyErr {
    match error {
        Error::Overflow { shape, strides, .. } => PyBufferError::new_err(format!(
            "shape {} with strides {} and {itemsize}-byte elements of type {dtype} exceeds the \
             address space",
            tuple(&shape),
            tuple(&strides)
        )),
        error => buffer_error(error),
    }
}
