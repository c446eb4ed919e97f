//! Tensors in and out of Rust extension modules for Python.
//!
//! Any Python code may reach the memory of an array. So every tensor that comes from Python or goes
//! there is `Access::Aliased`, the crate uses raw pointers, and it never makes a Rust view of the
//! memory.
//!
//! The files form layers: a file uses only files of the layers below it. A folder counts as one
//! file:
//!
//! ```text
//! lib
//! py_tensor
//! methods  dlpack_import
//! dlpack_method
//! dlpack_export
//! transfer  copies  copyto  pickle
//! copyto_errors
//! import/  export/
//! tensor_object
//! target_device  stream  export_policy  clone  byte_strides  numpy_asarray
//! torch_owner
//! torch_table  torch_objects
//! error  dtype  known_types  release/  device  detached  capsule  call  copy_flag  memory_format
//! ```

// Errors carry the rejected tensor, whose layout is stored inline.
#![allow(clippy::result_large_err)]

mod argument;
mod byte_strides;
mod call;
mod capsule;
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
mod elements;
mod error;
mod export;
mod export_policy;
mod import;
mod known_types;
mod like;
mod memory_format;
mod methods;
mod numpy_asarray;
mod pickle;
mod producer;
mod py_tensor;
mod raise;
mod release;
mod stream;
mod target_device;
mod tensor_object;
mod tensor_source;
mod torch_objects;
mod torch_owner;
mod torch_table;
mod transfer;

pub use argument::Argument;
pub use copies::{clone, contiguous, tensor};
pub use copyto::copyto;
pub use dlpack_import::{from_dlpack, from_numpy};
pub use like::like;
pub use producer::{Producer, add_dlpack};
pub use py_tensor::PyTensor;
pub use raise::OrRaise;
