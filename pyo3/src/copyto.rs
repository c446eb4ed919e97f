//! Copies from one array to another, of any libraries: `dlbridge.copyto`.

use dlbridge::{Error, MemoryFormat, Tensor};
use pyo3::intern;
use pyo3::prelude::*;

use crate::clone::{clone, detach_if_large};
use crate::copyto_errors::{copy_error, named, read_only_error};
use crate::import;
use crate::known_types::TORCH_TENSOR;
use crate::torch_owner::check_owner_address;

/// Copies the elements of `source` to `target`, arrays of any libraries, of the same shape and
/// element type.
///
/// Raises ValueError if shapes or element types differ, if `target` is read-only, and if its
/// elements share memory; TypeError if an argument is not an array; and BufferError if an argument
/// cannot be shared. The text calls the arguments `dst` and `src`.
///
/// ```
/// use pyo3::prelude::*;
///
/// # fn main() -> PyResult<()> {
/// Python::attach(|py| {
///     let target = py.import("torch")?.call_method1("zeros", (2,))?;
///     let source = py.import("numpy")?.call_method1("ones", (2, "float32"))?;
///     dlbridge_pyo3::copyto(&target, &source)?;
///     assert_eq!(target.call_method0("tolist")?.extract::<Vec<f32>>()?, [1.0, 1.0]);
///     Ok(())
/// })
/// # }
/// ```
pub fn copyto(target: &Bound<'_, PyAny>, source: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = target.py();
    let in_target = |error| named(py, "dst", error);
    let in_source = |error| named(py, "src", error);
    let to = import::share_to_write(target).map_err(in_target)?;
    let from = import::readable(source, MemoryFormat::Preserve).map_err(in_source)?.tensor;
    if to.is_shared_read_only() {
        return Err(read_only_error());
    }
    // Python code has run since the arrays were imported, and may have moved their memory.
    check_owner_address(py, &from).map_err(in_source)?;
    check_owner_address(py, &to).map_err(in_target)?;
    let copied = match copy_elements(py, &from, &to) {
        // The arrays share memory, so the elements are first copied to new memory.
        Err(Error::CopyOverlaps) => copy_elements(py, &clone(py, &from)?, &to),
        copied => copied,
    };
    copied.map_err(|error| copy_error(source, &from, error))?;
    if TORCH_TENSOR.is_type_of(target) {
        // This tells autograd that the values it saved of the tensor are out of date.
        let graph = py.import(intern!(py, "torch.autograd.graph"))?;
        graph.call_method1(intern!(py, "increment_version"), (target,))?;
    }
    Ok(())
}

fn copy_elements(py: Python<'_>, from: &Tensor, to: &Tensor) -> Result<(), Error> {
    let copy = || {
        // SAFETY: `to` must be writable, and no Rust view of it may exist: `copyto` checked that
        // it is not read-only, and no Rust view of the memory is made in this crate. Python code
        // that uses the memory meanwhile races, as it does with every other library.
        unsafe { from.copy_into_unchecked(to) }
    };
    detach_if_large(py, from, to, copy)
}
