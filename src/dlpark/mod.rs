//! Conversions between tensors and the managed tensors of dlpark, without copies.
//!
//! [`structs`] proves that dlpark's declarations of DLPack's structs are laid out as those of this
//! crate. [`tensor`] has the methods of `Tensor` that name dlpark's types, [`view`] the description
//! that borrows a tensor, and [`managed`] the way back. [`safetensors`] reads files that dlpark
//! maps.
//!
//! What dlpark's types guarantee decides which conversions are safe functions:
//!
//! * A [`Managed`](::dlpark::Managed) guarantees the struct itself, its shape, its strides and its
//!   deleter: that is what `Managed::from_raw`, an `unsafe` function, requires of its caller. It
//!   guarantees nothing about the elements. Reading its description is therefore safe, and reading
//!   its elements is `unsafe`.
//! * A struct that this crate made guarantees its elements, too. It is recognised by an address
//!   that only this crate puts into a struct, and a struct that was changed since does not count.
//!   Safe code cannot write the struct of a `Managed`.
//! * An `Initialized`, which dlpark's adapters make of images, arrays and other containers,
//!   guarantees nothing. Its setters are safe functions, and so is an implementation of
//!   `TryFrom<Box<T>>` for it, where `T` is a type of the caller's crate.
//!   The memory can also change later: candle's operations in place may replace a `Vec` whose
//!   address a managed tensor holds.
//! * A `SafeTensorFile` guarantees its tensors: dlpark checks every range against the file, and
//!   gives no mutable access.

mod managed;
#[cfg(feature = "safetensors")]
mod safetensors;
mod structs;
mod tensor;
mod view;

pub use managed::DlparkExt;
#[cfg(feature = "safetensors")]
pub use safetensors::{SafetensorsError, SafetensorsExt};
pub use structs::DlparkStruct;
pub use view::DlparkView;
