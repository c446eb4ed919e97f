//! dlbridge for Python. `package/dlbridge/__init__.pyi` describes what users see of it.
//!
//! Everything here works on raw pointers: any Python code may reach the memory of an array, so
//! every tensor is `Access::Aliased`, and no Rust view of its memory is ever made.
//!
//! The files in layers. A file uses only files of the layers below it, and a folder counts as one:
//!
//! ```text
//! lib
//! functions  dlpack_method
//! methods  dlpack_import  dlpack_export
//! transfer  copies  pickle
//! import/  export/
//! class
//! target_device  stream  export_policy  clone  byte_strides  numpy_asarray
//! torch_owner
//! torch_table  torch_objects
//! error  dtype  known_types  release/  device  detached  capsule  call  copy_flag  memory_format
//! ```

// Errors carry the rejected tensor, whose layout is stored inline.
#![allow(clippy::result_large_err)]

mod byte_strides;
mod call;
mod capsule;
mod class;
mod clone;
mod copies;
mod copy_flag;
mod detached;
mod device;
mod dlpack_export;
mod dlpack_import;
mod dlpack_method;
mod dtype;
mod error;
mod export;
mod export_policy;
mod functions;
mod import;
mod known_types;
mod memory_format;
mod methods;
mod numpy_asarray;
mod pickle;
mod release;
mod stream;
mod target_device;
mod torch_objects;
mod torch_owner;
mod torch_table;
mod transfer;

use pyo3::pymodule;

/// One tensor buffer, many runtimes, no copies unless you ask.
#[pymodule(gil_used = true)]
mod _dlbridge {
    #[pymodule_export]
    use super::class::PyTensor;
    #[pymodule_export]
    use super::functions::{clone, contiguous, copyto, from_dlpack, from_numpy, tensor_copy};
    #[pymodule_export]
    use super::pickle::_rebuild;
    #[pymodule_export]
    use super::release::_close;

    use pyo3::exceptions::PyImportError;
    use pyo3::ffi;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        // SAFETY: the thread must be attached to an interpreter, as `py` proves.
        let interpreter = unsafe { ffi::PyInterpreterState_Get() };
        // SAFETY: the interpreter must be alive: it is the one that this thread is attached to.
        if unsafe { ffi::PyInterpreterState_GetID(interpreter) } != 0 {
            // Deleters attach to the main interpreter. From another they would deadlock.
            return Err(PyImportError::new_err("dlbridge can't be used in subinterpreters"));
        }
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        super::dlpack_method::install(&py.get_type::<PyTensor>())?;
        py.import("atexit")?.call_method1("register", (module.getattr("_close")?,))?;
        Ok(())
    }
}
