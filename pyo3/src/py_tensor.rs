//! [`PyTensor`], a tensor that crosses between Rust and Python.

#![forbid(unsafe_code)]

use dlbridge::Tensor;
use pyo3::Borrowed;
use pyo3::prelude::*;

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

    /// Adds the class of the objects that a [`PyTensor`] becomes to `module`, as `Tensor`.
    ///
    /// Raises ImportError in a subinterpreter.
    pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
        ensure_ready(module.py())?;
        module.add_class::<TensorObject>()?;
        module.getattr("Tensor")?.setattr("__module__", module.name()?)
    }
}

impl From<Tensor> for PyTensor {
    fn from(tensor: Tensor) -> Self {
        Self(tensor)
    }
}

impl<'py> FromPyObject<'_, 'py> for PyTensor {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        import::share(&object).map(Self)
    }
}

impl<'py> IntoPyObject<'py> for PyTensor {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(TensorObject::new(self.0).into_bound(py)?.into_any())
    }
}
