//! The Python exceptions of errors: `BufferError` for everything about the data or the device,
//! `ValueError`, `IndexError` and `TypeError` for wrong arguments, `RuntimeError` if CUDA itself
//! fails.

use dlbridge::{Error, Remedy};
use pyo3::exceptions::{PyBufferError, PyIndexError, PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

/// The exception for a tensor that cannot be exchanged.
#[cold]
pub(crate) fn buffer_error(error: impl Into<Error>) -> PyErr {
    let error = error.into();
    let text = text(&error);
    match error {
        Error::OutOfMemory { .. } => PyMemoryError::new_err(text),
        Error::Cuda { .. } => PyRuntimeError::new_err(text),
        Error::OutOfRange { .. } => PyIndexError::new_err(text),
        Error::InvalidView { .. } => PyValueError::new_err(text),
        _ => PyBufferError::new_err(text),
    }
}

/// The text of an error of the core crate: its fact and, if there is one, the remedy in Python's
/// words.
#[cold]
pub(crate) fn text(error: &Error) -> String {
    match error.remedy().map(words) {
        Some(remedy) => format!("{}: {remedy}", error.fact()),
        None => error.fact().to_string(),
    }
}

/// Python's words for a remedy.
fn words(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::CopyToCpu => "use Tensor.cpu() first",
        Remedy::CopyToDevice => "use Tensor.to(device)",
        Remedy::Clone | Remedy::CloneOrAssume | Remedy::CopyToVec => "use Tensor.clone()",
        Remedy::CloneContiguous => "use Tensor.clone(memory_format='contiguous_format')",
        Remedy::CloneSource => "copy from a clone() of src",
        Remedy::WriteToClone => "write to a clone() instead",
        Remedy::DropOtherHandles => "delete the other tensors first, or use Tensor.clone()",
        Remedy::CopyToNdarray => "use Tensor.clone().numpy()",
        Remedy::ExportVersioned => "ask with max_version=(1, 0), or export a Tensor.clone()",
        Remedy::ExportVersion1 => "the producer must export DLPack 1.x",
        Remedy::EnableCuda => "install a build of dlbridge with CUDA",
        Remedy::CopyToTorch => "use Tensor.clone().torch()",
        Remedy::CopyFromTorch => "use dlbridge.tensor(tensor), which copies",
        Remedy::DropTorchOwners => {
            "delete the other tensors first, or use dlbridge.tensor(tensor), which copies"
        }
        Remedy::MoveTorchToCpu => "use tensor.cpu() first",
        Remedy::ToDense => "use tensor.to_dense()",
        Remedy::Dequantize => "use tensor.dequantize()",
        Remedy::ResolveNeg => "use tensor.resolve_neg()",
        Remedy::ResolveConj => "use tensor.resolve_conj()",
        Remedy::Detach => "use tensor.detach()",
        Remedy::ToPaddedTensor => "share the tensors of tensor.unbind()",
        Remedy::CloneTorch => "use tensor.clone()",
        Remedy::CastTorch => "use tensor.to(dtype)",
        Remedy::MakeOrdinary => "copy its elements into an ordinary tensor first",
        // The enum is `#[non_exhaustive]`: a test finds remedies without words.
        _ => "",
    }
}

/// `numbers` as Python prints a tuple of them.
pub(crate) fn tuple(numbers: &[i64]) -> String {
    match numbers {
        [number] => format!("({number},)"),
        numbers => {
            format!("({})", numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}

/// `count` and the word "dimensions".
pub(crate) fn dimensions(count: usize) -> String {
    format!("{count} dimension{}", if count == 1 { "" } else { "s" })
}

/// `error` with `cause` as its `__cause__`.
#[cold]
pub(crate) fn caused_by(py: Python<'_>, error: PyErr, cause: PyErr) -> PyErr {
    error.set_cause(py, Some(cause));
    error
}

/// Sets the exception for a panic of this crate. It uses no PyO3, which may be what panicked. The
/// thread must be attached.
#[cold]
pub(crate) fn set_panic_error() {
    // SAFETY: the static must be initialised: the interpreter is, as the thread is attached to it.
    let class = unsafe { ffi::PyExc_RuntimeError };
    // SAFETY: the thread must be attached, as every caller is, with a class and a C string.
    unsafe { ffi::PyErr_SetString(class, c"dlbridge panicked: this is a bug".as_ptr()) };
}
