//! libtorch: conversions both ways, and who owns the memory.

mod conversions;
mod cuda;
mod exclusivity;
mod layouts;
mod ownership;
mod refusals;
mod support;
