//! dlbridge for Python. What users see of it is described in `dlbridge/__init__.pyi`.
//!
//! Everything here works on raw pointers: Python aliases freely, so memory is foreign from birth, and no Rust
//! view of it is ever made.

// Refusals give the source back, and a tensor's layout is stored inline.
#![allow(clippy::result_large_err)]

mod buffer;
mod copies;
mod device;
mod dtype;
mod error;
mod exchange;
mod export;
mod import;
mod library;
mod list;
mod method;
mod numpy;
mod owner;
mod pickle;
mod tensor;
mod torch;

use dlbridge::MemoryFormat;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use tensor::PyTensor;

/// Shares the memory of any array: of anything with `__dlpack__`, the buffer protocol or
/// `__array_interface__`, or of a DLPack capsule.
///
/// With `device`, 'cpu' for example, memory elsewhere is copied there. `copy=True` copies in any case,
/// `copy=False` refuses to.
#[pyfunction]
#[pyo3(signature = (x, /, *, device = None, copy = None))]
fn from_dlpack(
    x: &Bound<'_, PyAny>,
    device: Option<&Bound<'_, PyAny>>,
    copy: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTensor> {
    import::from_dlpack(x, device, copy).map(PyTensor::new)
}

/// Shares the memory of a NumPy array, read-only if the array is.
#[pyfunction]
#[pyo3(signature = (array, /))]
fn from_numpy(array: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    numpy::from_numpy(array).map(PyTensor::new)
}

/// Copies any array into new memory that may be written; the order of its strides is kept.
#[pyfunction]
#[pyo3(name = "tensor", signature = (x, /))]
fn copied(x: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    let py = x.py();
    let shared = import::share(x).map_err(|error| {
        if !error.is_instance_of::<pyo3::exceptions::PyAttributeError>(py) {
            return error;
        }
        let class = x.get_type().fully_qualified_name().map(|name| name.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!(
            "expected an array of any library, got '{class}': numpy.array() makes one"
        ))
    })?;
    copies::clone(py, &shared).map(PyTensor::new)
}

/// Copies any array into a new one of the same library; the order of its strides is kept, and gaps are closed.
#[pyfunction]
#[pyo3(signature = (x, /))]
fn clone<'py>(x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    copies::copy_of(x, MemoryFormat::Preserve)
}

/// Gives back any array whose elements lie in row-major order; copies any other into a new one of the same
/// library.
#[pyfunction]
#[pyo3(signature = (x, /))]
fn contiguous<'py>(x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    copies::contiguous(x)
}

/// Copies the elements of one array into another of the same shape and type, whatever their libraries and
/// strides.
#[pyfunction]
#[pyo3(signature = (dst, src, /))]
fn copyto(dst: &Bound<'_, PyAny>, src: &Bound<'_, PyAny>) -> PyResult<()> {
    copies::copy_to(dst, src)
}

/// One tensor buffer, many runtimes, no copies unless you ask.
#[pymodule(gil_used = true)]
mod _dlbridge {
    #[pymodule_export]
    use super::owner::_close;
    #[pymodule_export]
    use super::pickle::_rebuild;
    #[pymodule_export]
    use super::{PyTensor, clone, contiguous, copied, copyto, from_dlpack, from_numpy};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        super::method::install(&py.get_type::<super::PyTensor>())?;
        py.import("atexit")?.call_method1("register", (module.getattr("_close")?,))?;
        Ok(())
    }
}
