//! A fake of NVIDIA's driver library, `libcuda.so.1`, for tests on machines without a GPU.
//!
//! The fake does over host memory what the driver does on a GPU. It runs work as late, frees memory
//! as early, and orders streams as freely, as CUDA's rules allow, and behaves the same way each
//! time. A use of the driver that breaks the rules is recorded as a fault. `control.rs` has the
//! functions that tests call to read the faults and to inject failures.
//!
//! Modules from the lowest layer to the highest; each one imports only from layers above it here:
//!
//! ```text
//! error  handle           result codes, handle numbers
//! log  memory             calls and faults; device memory and page-locked memory
//! kernel  work  queue     one launch, one operation, operations in order
//! driver                  the state, behind one lock
//! call                    how a function of cuda.h is logged, checked and served
//! api/*  control          the functions of cuda.h; the functions for tests
//! ```
//!
//! Invariants:
//! * queued work runs when a call waits for it, and no other work runs then but what it waits for;
//!   `cuMemFreeAsync` runs at once;
//! * an operation that may not touch the memory that it names is a fault and touches nothing;
//! * host code cannot reach the addresses of device memory or of freed page-locked memory, and no
//!   address or handle is given out twice.

#![allow(non_snake_case, reason = "the names of cuda.h")]

mod api;
mod call;
mod control;
mod driver;
mod error;
mod handle;
mod kernel;
mod log;
mod memory;
mod queue;
#[cfg(test)]
mod tests;
mod work;
