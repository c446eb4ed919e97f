//! A fake of NVIDIA's driver library, `libcuda.so.1`, for tests on machines without a GPU.
//!
//! It does over host memory what the driver does, as late, as early and as much out of order as CUDA's
//! rules allow, and the same way each time. What breaks the rules is recorded as a fault. `control.rs` has
//! what tests ask for.
//!
//! Invariants:
//! * work on a stream runs when something waits for it, and only as far as it must; a free runs at once;
//! * an operation that may not touch what it names is a fault and touches nothing;
//! * addresses of device memory and of freed page-locked memory cannot be reached by the host, and no
//!   address or handle is given out twice.

#![allow(non_snake_case, reason = "the names of cuda.h")]

mod context;
mod control;
mod copy;
mod driver;
mod error;
mod event;
mod handle;
mod kernel;
mod log;
mod memory;
mod queue;
mod stream;
#[cfg(test)]
mod tests;
mod work;
