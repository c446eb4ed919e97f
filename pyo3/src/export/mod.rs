//! Export: shares the memory of a tensor with other libraries.

pub(crate) mod array_interface;
pub(crate) mod buffer;
pub(crate) mod bytes;
pub(crate) mod capsule;
pub(crate) mod cuda_array_interface;
mod element;
pub(crate) mod exchange_table;
pub(crate) mod jax;
pub(crate) mod list;
pub(crate) mod numpy;
pub(crate) mod text;
pub(crate) mod torch;
pub(crate) mod torch_function;
