//! Functions that take a tensor from Python and return it, with dlbridge and with dlpark.
//! `benches/python/host.py` measures them.

#![forbid(unsafe_code)]

use pyo3::pymodule;

#[pymodule(gil_used = true)]
mod bench_extension {
    use dlbridge_pyo3::PyTensor;
    use dlpark::python::{ImportedDlpack, from_dlpack};
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        PyTensor::add_to(module)
    }

    #[pyfunction]
    fn with_dlbridge(x: PyTensor) -> PyTensor {
        x
    }

    /// Returns a capsule, because dlpark has no class for tensors.
    #[pyfunction]
    fn with_dlpark<'py>(x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match from_dlpack(x.as_borrowed(), None, None)? {
            ImportedDlpack::Versioned(tensor) => tensor.into_pyobject(x.py()),
            ImportedDlpack::Legacy(tensor) => tensor.into_pyobject(x.py()),
        }
    }
}
