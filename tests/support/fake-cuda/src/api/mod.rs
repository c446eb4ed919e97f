//! The functions of cuda.h, by subject.

pub(crate) mod contexts;
pub(crate) mod copies;
pub(crate) mod devices;
pub(crate) mod errors;
pub(crate) mod events;
pub(crate) mod memory;
pub(crate) mod modules;
pub(crate) mod streams;
