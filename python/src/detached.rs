//! Work on tensors while the thread is detached from the interpreter, so that other threads run.

#![forbid(unsafe_code)]

use dlbridge::Tensor;
use pyo3::prelude::*;

/// Runs `work`, which uses `tensors`, detached from the interpreter.
///
/// A handle of each tensor is kept meanwhile, made and dropped by an attached thread. So while the
/// garbage collector runs, which holds the interpreter's lock, the number of handles of a tensor
/// that had one may not grow: `PyTensor::traverse` relies on that. This is the only function of the
/// crate that detaches with a tensor.
pub(crate) fn detached<T: Send, const N: usize>(
    py: Python<'_>,
    tensors: [&Tensor; N],
    work: impl FnOnce() -> T + Send,
) -> T {
    let _handles = tensors.map(Tensor::share);
    #[expect(clippy::disallowed_methods, reason = "the handles are kept")]
    py.detach(work)
}
