//! Tests of the C library from outside: what it exports, how it is installed, and C, C++, Python,
//! JavaScript and Lua programs that use it.
//!
//! The C and C++ programs are in `capi/tests/c` and `capi/tests/cpp`. A test that needs a tool that
//! is not installed prints `skipped`, and passes.

mod embedding;
mod errors;
mod examples;
mod guide;
mod install;
mod programs;
mod refused;
mod support;
mod symbols;
mod torch;
