//! Layouts whose strides are in bytes, as NumPy and the buffer protocol have them.

use dlbridge::Layout;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

use crate::error::buffer_error;

/// Why there is no layout.
pub(crate) const UNEVEN: &str =
    "DLPack only supports strides which are a multiple of itemsize: use array.copy()";

/// Up to this rank no allocation is needed on the way.
const INLINE_RANK: usize = 8;

/// The layout of elements of a size; `None` when they do not lie on multiples of it.
#[inline(always)] // what it gives is large
pub(crate) fn of_bytes(
    shape: &[isize],
    strides: &[isize],
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
    for ((size, step), (&shown, &bytes)) in sizes.iter_mut().zip(steps.iter_mut()).zip(given) {
        let bytes = bytes as i64;
        (*size, *step) = (shown as i64, bytes / itemsize);
        // Strides of dimensions that nobody walks mean nothing.
        if *step * itemsize != bytes && *size > 1 {
            return Ok(None);
        }
    }
    Layout::new(sizes, steps).map(Some).map_err(buffer_error)
}
