//! Tests of the library from Rust, in an interpreter of their own.

#![expect(clippy::disallowed_methods, reason = "handles of other crates are their own")]

mod arguments;
mod class;
mod drops;
mod likeness;
mod memory;
mod moved_memory;
mod producers;
mod support;
