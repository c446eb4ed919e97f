//! Tensors in and out of Rust extension modules for Python, without copying.
//!
//! A function that takes a [`PyTensor`] takes an array of NumPy, PyTorch, JAX, CuPy, PyArrow and
//! every other library that supports DLPack, the buffer protocol or an array interface. A function
//! that returns one returns an object that all of these take, and [`like`] gives the caller an
//! array of the caller's own library. The
//! [guide](https://dlbridge.github.io/dlbridge/docs/extension-modules.html) goes from `cargo new` to
//! a wheel.
//!
//! ```
//! use pyo3::prelude::*;
//!
//! #[pymodule]
//! mod filters {
//!     use dlbridge::DType;
//!     use dlbridge_pyo3::{Argument, PyTensor, like};
//!     use ndarray::Ix2;
//!     use pyo3::prelude::*;
//!
//!     /// Divides each row by its sum. The result is an array of the library of `x`.
//!     #[pyfunction]
//!     fn normalise<'py>(py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
//!         let rows = Argument::named("x").dtype(DType::F32).ndim(2).on_host().get(x)?;
//!         let mut rows = rows.to_ndarray::<f32, Ix2>(py)?; // the only copy
//!         py.detach(|| rows.rows_mut().into_iter().for_each(|mut row| row /= row.sum()));
//!         like(x, rows)
//!     }
//!
//!     #[pymodule_init]
//!     fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
//!         PyTensor::add_to(module)
//!     }
//! }
//! # fn main() -> PyResult<()> {
//! # Python::attach(|py| {
//! # let filters = pyo3::wrap_pymodule!(filters)(py);
//! # let x = py.import("torch")?.call_method1("ones", ((2, 4),))?;
//! # let rows = filters.call_method1(py, "normalise", (x,))?.call_method0(py, "tolist")?;
//! # assert_eq!(rows.extract::<Vec<Vec<f32>>>(py)?, [[0.25; 4]; 2]);
//! # let x = py.import("numpy")?.call_method1("ones", ((2, 4),))?;
//! # let error = filters.call_method1(py, "normalise", (x,)).unwrap_err();
//! # assert!(error.to_string().starts_with("TypeError: x: expected float32, got float64"));
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # What there is
//!
//! | item | what it does | copies |
//! |---|---|---|
//! | [`PyTensor`] as an argument | shares the memory of any array | no |
//! | [`PyTensor`] as a result | makes an object of the module's class `Tensor` | no |
//! | `From<Tensor>`, `From<NdArray>`, `From<Array>`, [`PyTensor::from_vec`] | moves memory of Rust in | no |
//! | [`PyTensor::tensor`], [`PyTensor::into_tensor`] | gives the tensor of the crate `dlbridge` | no |
//! | [`PyTensor::to_vec`], [`PyTensor::to_ndarray`], [`PyTensor::deep_clone`] | read the elements, safely | yes |
//! | [`PyTensor::assume_read_only`], [`PyTensor::assume_exclusive`] | read and write the memory itself: `unsafe` | no |
//! | [`Argument`] | shares the memory if type, rank, layout and device are as expected | no |
//! | [`like`] | makes an array of the caller's library | for NumPy, and as its table says |
//! | [`Producer`], [`add_class`], [`add_dlpack`] | make other libraries take objects of the author's class | no |
//! | [`OrRaise`] | makes Python exceptions of errors of the crate `dlbridge` | |
//! | [`PyTensor::add_to`] | adds the class `Tensor` to a module | |
//! | [`from_dlpack`], [`from_numpy`], [`tensor`](fn@tensor), [`clone`], [`contiguous`], [`copyto`] | the functions of the Python package dlbridge | as their names say |
//!
//! # Safety
//!
//! Any Python code may reach the memory of an array, and other threads may write it. So safe code
//! gets no Rust view of memory that came from Python or went there: that memory is
//! [`Access::Aliased`](dlbridge::Access), and not trusted. A copy that runs while another thread
//! writes the same array has elements of before and after, as in every library of Python. The
//! [limits](PyTensor#limits) are about memory that PyTorch moves.
//!
//! # Threads and the end of the interpreter
//!
//! Tensors are `Send` and `Sync`. The last handle may be dropped on any thread, attached or not,
//! and while an exception is pending. To keep a tensor in a global variable is sound: after the end
//! of the interpreter its memory is leaked. Subinterpreters are refused with ImportError. Modules
//! that use this crate need the GIL: leave `gil_used` of `#[pymodule]` true, which is its default.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `ndarray` | yes | conversions from and to ndarray 0.17 |
//! | `parallel` | yes | large copies use all threads |
//!
//! # Layers
//!
//! The files form layers: a file uses only files of the layers below it. A folder counts as one
//! file:
//!
//! ```text
//! lib
//! methods  producer
//! dlpack_method  like
//! dlpack_export  dlpack_import  copies  tensor_copies  pickle  elements  argument
//! transfer  copyto  py_tensor  element_protocols
//! copyto_errors
//! import/  export/
//! tensor_source
//! tensor_object  clone
//! target_device  stream  export_policy  byte_strides  numpy_asarray  raise
//! torch_owner
//! torch_table  torch_objects  numpy_objects
//! torch_elements  dtype_object  numbers/
//! dtype_names
//! memory_format  tensor_queries
//! error  dtype  known_types  release/  device  detached  capsule  call  copy_flag
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]
// Errors carry the rejected tensor, whose layout is stored inline.
#![allow(clippy::result_large_err)]

/// Runs the README's example.
#[cfg(all(doctest, feature = "ndarray"))]
#[doc = include_str!("../README.md")]
struct Readme;

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
mod dtype_names;
mod dtype_object;
mod element_protocols;
mod elements;
mod error;
mod export;
mod export_policy;
mod import;
mod known_types;
mod like;
mod memory_format;
mod methods;
mod numbers;
mod numpy_asarray;
mod numpy_objects;
mod numpy_registry;
mod pickle;
mod producer;
mod py_tensor;
mod raise;
mod release;
mod stream;
mod target_device;
mod tensor_copies;
mod tensor_object;
mod tensor_queries;
mod tensor_source;
mod torch_elements;
mod torch_objects;
mod torch_owner;
mod torch_table;
mod transfer;

pub use argument::Argument;
pub use copies::{clone, contiguous, tensor};
pub use copyto::copyto;
pub use dlpack_import::{from_dlpack, from_numpy};
pub use like::like;
pub use producer::{Producer, add_class, add_dlpack};
pub use py_tensor::PyTensor;
pub use raise::OrRaise;

/// The cache of memory for copies, of this module: another module of Python has one of its own.
pub use dlbridge::{cached_bytes, set_cache_limit, trim};
