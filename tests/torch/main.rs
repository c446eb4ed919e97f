//! libtorch: conversions both ways, and who owns the memory.

mod attacks;
mod conversions;
mod cuda;
mod exclusivity;
#[path = "../support/hostile_jobs.rs"]
mod hostile_jobs;
mod layouts;
mod ownership;
mod refusals;
mod round_trips;
mod shared_copies;
mod support;
