//! Tests of the library from Rust, in an interpreter of their own.

mod arguments;
mod class;
mod drops;
mod likeness;
mod memory;
mod moved_memory;
mod producers;
mod support;
