//! libtorch: conversions in both directions, and the ownership of the memory.

mod attacks;
mod conversions;
mod cuda;
mod exclusivity;
#[path = "../support/hostile_jobs.rs"]
mod hostile_jobs;
mod layouts;
#[cfg(feature = "ndarray-0_16")]
mod ndarray_versions;
mod owners;
mod ownership;
mod refusals;
mod round_trips;
mod sequences;
mod shared_copies;
mod support;
mod view_owners;
mod views;

/// The modules of the fuzz target `handles`, not all of which are used here.
#[allow(dead_code)]
#[path = "../../fuzz/src/elements.rs"]
mod elements;
#[allow(dead_code, clippy::result_large_err)]
#[path = "../../fuzz/src/handles/mod.rs"]
mod handles;
#[allow(dead_code)]
#[path = "../../fuzz/src/input.rs"]
mod input;
#[allow(dead_code)]
#[path = "../../fuzz/src/memory.rs"]
mod memory;
