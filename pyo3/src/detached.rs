//! Work on tensors while the thread is detached from the interpreter, so that other threads run.

#![forbid(unsafe_code)]

use dlbridge::Tensor;
use pyo3::prelude::*;

/// Runs `work`, which uses `tensors`, detached from the interpreter.
///
/// A second handle of each tensor is kept meanwhile, which the attached thread makes and drops. So
/// a tensor with one handle does not get more while the garbage collector runs, which holds the
/// GIL; `TensorObject::traverse` relies on that. No other function of the crate detaches with a
/// tensor. Other crates detach with handles of their own, and need not use this function.
pub(crate) fn detached<T: Send, const N: usize>(
    py: Python<'_>,
    tensors: [&Tensor; N],
    work: impl FnOnce() -> T + Send,
) -> T {
    let _handles = tensors.map(Tensor::share);
    #[expect(clippy::disallowed_methods, reason = "the handles are kept")]
    py.detach(work)
}
