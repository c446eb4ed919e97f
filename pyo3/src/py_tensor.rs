//! [`PyTensor`], a tensor that crosses between Rust and Python.

#![forbid(unsafe_code)]

use dlbridge::{Access, DType, Device, Element, Tensor};
use pyo3::Borrowed;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::error::buffer_error;
use crate::export_policy::share_read_only;
use crate::import;
use crate::release::ensure_ready;
use crate::tensor_object::TensorObject;
use crate::torch_owner::check_owner_address;

/// A tensor as an argument or a result of a Python function.
///
/// As an argument it shares the memory of whatever array the caller passes: of NumPy, PyTorch, JAX
/// or any other library that [`from_dlpack`](crate::from_dlpack) takes. As a result it becomes an
/// object of the class `dlbridge.Tensor`, which all of these libraries take. No element is copied.
pub struct PyTensor(Tensor);

impl PyTensor {
    /// Wraps a tensor whose memory came from Python. Python code may write the memory at any time,
    /// so safe code gets no Rust view of it.
    #[inline]
    pub(crate) fn from_python(tensor: Tensor) -> Self {
        match tensor.access() {
            // The memory is aliased for good, so this cannot fail.
            Access::Aliased { trusted: true, .. } => {
                Self(tensor.into_aliased().unwrap_or_else(|rejected| rejected.into_value()))
            }
            _ => Self(tensor),
        }
    }

    /// Moves a `Vec` into a row-major tensor of this shape.
    pub fn from_vec<T: Element>(data: Vec<T>, shape: impl AsRef<[i64]>) -> PyResult<Self> {
        Tensor::from_vec(data, shape).map(Self).map_err(buffer_error)
    }

    /// The tensor.
    ///
    /// Raises BufferError if PyTorch moved the memory since it was shared.
    pub fn tensor(&self, py: Python<'_>) -> PyResult<&Tensor> {
        check_owner_address(py, &self.0)?;
        Ok(&self.0)
    }

    /// The tensor, moved out.
    ///
    /// Raises BufferError if PyTorch moved the memory since it was shared.
    pub fn into_tensor(self, py: Python<'_>) -> PyResult<Tensor> {
        check_owner_address(py, &self.0)?;
        Ok(self.0)
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> &[i64] {
        self.0.shape()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype()
    }

    /// Device that the memory is on.
    pub fn device(&self) -> Device {
        self.0.device()
    }

    /// Adds the class of the objects that a [`PyTensor`] becomes to `module`, as `Tensor`.
    ///
    /// Raises ImportError in a subinterpreter.
    pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
        static NAMED: PyOnceLock<()> = PyOnceLock::new();
        let py = module.py();
        ensure_ready(py)?;
        module.add_class::<TensorObject>()?;
        NAMED
            .get_or_try_init(py, || {
                let class = py.get_type::<TensorObject>();
                class.setattr(intern!(py, "__module__"), module.name()?)
            })
            .copied()
    }
}

impl From<Tensor> for PyTensor {
    fn from(tensor: Tensor) -> Self {
        match tensor.access() {
            // Another handle may have safe views of the memory, so Python code must not write it.
            Access::Aliased { writable: true, trusted: true } if !tensor.is_unique() => {
                Self(share_read_only(&tensor))
            }
            _ => Self::from_python(tensor),
        }
    }
}

#[cfg(feature = "ndarray")]
mod ndarray_conversions {
    use dlbridge::{ArrayExt, Element, NdArray};
    use ndarray::{Array, Dimension};

    use super::PyTensor;

    impl<T: Element, D: Dimension + 'static> From<NdArray<T, D>> for PyTensor {
        fn from(array: NdArray<T, D>) -> Self {
            Self::from(array.into_tensor())
        }
    }

    impl<T: Element, D: Dimension + 'static> From<Array<T, D>> for PyTensor {
        fn from(array: Array<T, D>) -> Self {
            Self::from(array.into_tensor())
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for PyTensor {
    type Error = PyErr;

    #[inline]
    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        import::share_argument(&object).map(Self::from_python)
    }
}

impl<'py> IntoPyObject<'py> for PyTensor {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    #[inline]
    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(TensorObject::new(self.0).into_bound(py)?.into_any())
    }
}
