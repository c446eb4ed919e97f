//! dlbridge's C ABI: the functions of `dlbridge.h`, one file per noun.
//!
//! Signatures say what the header says in words: `Option<&T>` borrows, `Option<Box<T>>` takes,
//! `Option<&mut MaybeUninit<*mut T>>` is written on success only, and all of them may be NULL.
//!
//! Invariants:
//! * a [`tensor::dlb_tensor`]'s memory is [`Access::Aliased`](dlbridge::Access) from birth, because C
//!   knows no borrow checker: nothing here makes a reference to elements;
//! * no panic leaves a function;
//! * what a function takes is taken after everything that can fail has succeeded.

#![allow(non_camel_case_types, reason = "the types of a C header")]

// In the order in which the header declares them; the empty lines keep it.
pub mod library;

pub mod error;

pub mod tensor;

pub mod dlpack;

pub mod memory;

pub mod copy;

pub mod device;

/// What `dlbridge.h` declares, as C sees it: tests call the library through this.
#[cfg(test)]
#[allow(nonstandard_style, unreachable_pub, dead_code, missing_docs, clippy::all)]
#[rustfmt::skip]
mod header;
#[cfg(test)]
mod tests;
