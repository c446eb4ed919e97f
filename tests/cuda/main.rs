//! Copies to, from and between CUDA devices, on the fake CUDA driver of `tests/support/fake-cuda`,
//! which runs work as late, and frees memory as early, as CUDA's rules let it.

mod copies;
mod failures;
#[path = "../support/fake_cuda.rs"]
mod fake_cuda;
mod streams;
mod tensors;
mod tracking;
mod transfers;
mod unavailable;
mod views;
