//! The errors of `dlbridge.copyto`, which name the argument that they are about.

#![forbid(unsafe_code)]

use dlbridge::{DType, Error, Tensor};
use pyo3::exceptions::{PyAttributeError, PyBufferError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::dtype;
use crate::error::{buffer_error, tuple};
use crate::known_types::TORCH_TENSOR;
use crate::tensor_object::TensorObject;

/// `error`, which is about the argument `name`, with this name before its text. An exception that
/// Python code raised, or of a class of another library, is the producer's, and is passed on.
#[cold]
pub(crate) fn named(py: Python<'_>, name: &str, error: PyErr) -> PyErr {
    let class = error.get_type(py);
    let is_ours = class.is(py.get_type::<PyBufferError>())
        || class.is(py.get_type::<PyValueError>())
        || class.is(py.get_type::<PyTypeError>())
        || class.is(py.get_type::<PyAttributeError>());
    if !is_ours || error.traceback(py).is_some() {
        return error;
    }
    let named = PyErr::from_type(class, format!("{name}: {}", error.value(py)));
    named.set_cause(py, error.cause(py));
    named
}

#[cold]
pub(crate) fn read_only_error() -> PyErr {
    PyValueError::new_err(
        "dst is read-only: make a writable copy with dlbridge.tensor(dst), and copy to that",
    )
}

/// The exception for a copy from `source`, whose memory is `from`, that failed with `error`.
#[cold]
pub(crate) fn copy_error(source: &Bound<'_, PyAny>, from: &Tensor, error: Error) -> PyErr {
    let py = source.py();
    let (fact, remedy) = match error {
        Error::ShapeMismatch { expected, found } => {
            let fact = format!("dst has shape {}, src has {}", tuple(&expected), tuple(&found));
            (fact, Methods::of(source, from).and_then(|src| src.reshaped(&expected, &found)))
        }
        Error::DTypeMismatch { expected, found } => {
            let fact = format!("dst has elements of type {expected}, src has {found}");
            let cast = Methods::of(source, from).and_then(|src| src.cast(expected));
            (fact, cast.or_else(|| Some("cast one of them first".to_owned())))
        }
        Error::SelfOverlap { shape, strides } => {
            let (shape, strides) = (tuple(&shape), tuple(&strides));
            let fact =
                format!("the elements of dst share memory (shape {shape}, strides {strides})");
            (fact, Some("copy to a contiguous array".to_owned()))
        }
        Error::UnsupportedDevice { device, .. } => {
            let name = if from.device() == device { "src" } else { "dst" };
            return named(py, name, buffer_error(error));
        }
        error => return buffer_error(error),
    };
    PyValueError::new_err(match remedy {
        Some(remedy) => format!("{fact}: {remedy}"),
        None => fact,
    })
}

/// How a Python program changes `src` into an array that fits `dst`.
struct Methods {
    /// An expression for `src` as an array that has methods.
    src: &'static str,
    /// Whether its methods are those of PyTorch. Otherwise they are those of NumPy.
    of_torch: bool,
}

impl Methods {
    /// The methods for `source`, whose memory is `tensor`; `None` if no expression is known.
    fn of(source: &Bound<'_, PyAny>, tensor: &Tensor) -> Option<Self> {
        let on_host = tensor.device().is_host();
        let has = |name| source.hasattr(name).unwrap_or(false);
        let (src, of_torch) = if TORCH_TENSOR.is_type_of(source) {
            ("src", true)
        } else if source.is_exact_instance_of::<TensorObject>() {
            if on_host { ("src.numpy()", false) } else { ("src.torch()", true) }
        } else if !on_host {
            return None;
        } else if has("transpose") && has("astype") {
            ("src", false)
        } else {
            ("numpy.asarray(src)", false)
        };
        Some(Self { src, of_torch })
    }

    /// The expression for `src` as elements of type `dtype`.
    fn cast(&self, dtype: DType) -> Option<String> {
        let Self { src, of_torch } = self;
        match dtype::format(dtype) {
            Some(_) if *of_torch => Some(format!("use {src}.to(torch.{dtype})")),
            Some(_) => Some(format!("use {src}.astype('{dtype}')")),
            None => None,
        }
    }

    /// The expression for `src`, which has the shape `found`, with the shape `expected`.
    fn reshaped(&self, expected: &[i64], found: &[i64]) -> Option<String> {
        let Self { src, of_torch } = self;
        if let Some(axes) = permutation(expected, found) {
            let axes: Vec<_> = axes.iter().map(usize::to_string).collect();
            let method = if *of_torch { "permute" } else { "transpose" };
            return Some(format!("use {src}.{method}({})", axes.join(", ")));
        }
        let broadcasts = found.len() <= expected.len()
            && expected.iter().rev().zip(found.iter().rev()).all(|(to, of)| to == of || *of == 1);
        let shape = tuple(expected);
        match (broadcasts, of_torch) {
            (false, _) => None,
            (true, true) => Some(format!("use {src}.expand({shape})")),
            (true, false) => Some(format!("use numpy.broadcast_to(src, {shape})")),
        }
    }
}

/// The dimensions of the shape `found` in the order that gives the shape `expected`. Dimensions of
/// equal size keep their order.
fn permutation(expected: &[i64], found: &[i64]) -> Option<Vec<usize>> {
    if expected.len() != found.len() {
        return None;
    }
    let mut axes = Vec::with_capacity(found.len());
    for size in expected {
        axes.push((0..found.len()).find(|axis| found[*axis] == *size && !axes.contains(axis))?);
    }
    Some(axes)
}
