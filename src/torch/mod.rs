//! libtorch: tensors in and out, without copies.
//!
//! [`shim`] calls the C++ part, [`tensor_info`] reads a libtorch tensor, [`blob`] makes libtorch
//! tensors of our buffers, [`owner`] keeps a libtorch tensor as the owner of its memory, and
//! [`dtype`] says which element types libtorch has. On them stand the conversions: [`tensor_ext`]
//! of libtorch tensors, [`tensor`] of ours, [`array_ext`] of arrays, [`scoped`] for the duration of
//! a closure, and [`export`] into DLPack structs.
//!
//! Invariants:
//! * Memory of ours enters libtorch through [`blob::from_buffer`] only, whose context is a
//!   reference to the memory's `Storage`. Memory that comes back with that context is unwrapped, so
//!   passing back and forth does not add layers. The context is recognised by the address of its
//!   deleter and by an address that only this copy of the crate has.
//! * Memory becomes [`Access::Exclusive`](crate::Access::Exclusive) only after libtorch's own
//!   reference counts, and the deleter of the memory, prove that nothing else reaches it.
//! * libtorch gets nothing that it would abort on, and nothing of a libtorch tensor is read before
//!   the tensor was found to be a plain strided buffer: its dispatch keys are all among those of an
//!   ordinary tensor, its storage has memory, and the elements lie within it.

mod array_ext;
mod blob;
mod dtype;
mod export;
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

pub use array_ext::ArrayTorchExt;
pub use tensor_ext::TorchExt;
