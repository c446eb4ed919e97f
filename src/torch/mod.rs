//! libtorch: conversions of tensors in both directions, without copies.
//!
//! ```text
//!                into_torch (tensor, array_ext)
//!                lend_torch (scoped)
//!   Tensor  ───────────────────────────────────►  tch::Tensor
//!   Array         blob: the memory becomes         │  shim: calls the C++ part
//!                 an at::DataPtr                   │
//!           ◄───────────────────────────────────   │  tensor_info: reads and checks it
//!                into_tensor, into_ndarray         ▼
//!                as_ndarray_mut (tensor_ext)      DLPack struct: share_dlpack (export)
//!                owner: keeps the at::Tensor (moved: its checks)
//! ```
//!
//! [`dtype`] lists the element types that libtorch has.
//!
//! Invariants:
//! * Memory of this crate enters libtorch through [`blob::from_buffer`] only. The context of the
//!   memory's deleter is then a reference to the memory's `Storage`. If the memory comes back, the
//!   storage is used again, so passing back and forth adds no layers. The context is recognised by
//!   the address of its deleter and by an address that only this copy of the crate has.
//! * Memory becomes [`Access::Exclusive`](crate::Access::Exclusive) only after libtorch's own
//!   reference counts, and the deleter of the memory, prove that no other code reaches it.
//! * libtorch gets nothing that makes it abort.
//! * No element of a libtorch tensor is read before the tensor was found to be a plain strided
//!   buffer: all of its dispatch keys are those of an ordinary tensor, its storage has memory, and
//!   the elements lie within the storage.

mod array_ext;
mod blob;
mod dtype;
mod export;
mod moved;
mod owner;
mod scoped;
mod shim;
mod tensor;
mod tensor_ext;
mod tensor_info;
#[cfg(test)]
mod tests;

/// What `shim.h` declares.
#[allow(nonstandard_style, unreachable_pub, clippy::all)]
#[rustfmt::skip]
mod bindings;

pub use array_ext::{ArrayTorchExt, WritableView};
pub use tensor_ext::TorchExt;
