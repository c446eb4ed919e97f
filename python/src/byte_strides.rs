//! Strides in bytes, as NumPy and the buffer protocol have them.

#![forbid(unsafe_code)]

use dlbridge::Layout;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

use crate::error::buffer_error;

/// The error message for strides that are not a multiple of the element size.
pub(crate) const UNEVEN: &str =
    "DLPack only supports strides which are a multiple of itemsize: use array.copy()";

/// Maximum rank for which the conversion allocates nothing.
const INLINE_RANK: usize = 8;

/// Converts strides in bytes to a layout, whose strides are in elements of `itemsize` bytes. `None`
/// if a stride is not a multiple of `itemsize`.
#[inline(always)] // a layout is large: inlined, it is written where it is needed
pub(crate) fn to_layout(
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
        // The stride of a dimension of size 0 or 1 has no meaning.
        if *step * itemsize != bytes && *size > 1 {
            return Ok(None);
        }
    }
    let element_bits = u32::try_from(8 * itemsize).unwrap_or(u32::MAX);
    let layout = Layout::new(sizes, steps).map_err(|error| error.with_element_bits(element_bits));
    layout.map(Some).map_err(buffer_error)
}
