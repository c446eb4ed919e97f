//! The extension module of the Python package. `package/dlbridge/__init__.pyi` documents its public
//! functions and class.
//!
//! Any Python code may reach the memory of an array. So every tensor of this crate is
//! `Access::Aliased`, the crate uses raw pointers, and it never makes a Rust view of the memory.
//!
//! The files form layers: a file uses only files of the layers below it. A folder counts as one
//! file:
//!
//! ```text
//! lib
//! functions  dlpack_method
//! methods  dlpack_import  dlpack_export
//! transfer  copies  copyto  pickle
//! copyto_errors
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
mod copyto;
mod copyto_errors;
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

/// Shares tensors between NumPy, PyTorch, JAX and other libraries without copying them.
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
            // Deleters attach to the main interpreter, which would deadlock in a subinterpreter.
            return Err(PyImportError::new_err("dlbridge can't be used in subinterpreters"));
        }
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        super::dlpack_method::install(&py.get_type::<PyTensor>())?;
        py.import("atexit")?.call_method1("register", (module.getattr("_close")?,))?;
        Ok(())
    }
}
