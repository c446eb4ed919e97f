//! The extension module of the Python package. `package/dlbridge/__init__.pyi` documents its public
//! functions and class, and the crate `dlbridge-pyo3` does the work.

#![forbid(unsafe_code)]

mod functions;

use pyo3::pymodule;

/// Shares tensors between NumPy, PyTorch, JAX and other libraries without copying them.
#[pymodule(gil_used = true)]
mod _dlbridge {
    #[pymodule_export]
    use super::functions::{
        cached_bytes, clone, contiguous, copyto, from_dlpack, from_numpy, set_cache_limit, tensor,
        trim,
    };

    use dlbridge_pyo3::PyTensor;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        PyTensor::add_to(module)?;
        // The package shows the classes under its own name.
        module.getattr("DType")?.setattr("__module__", "dlbridge")?;
        module.getattr("Tensor")?.setattr("__module__", "dlbridge")
    }
}
