//! DLPack: exported structs, imported structs, and the structs of a hostile producer.

mod changes;
mod exports;
mod fields;
mod lifetimes;
#[path = "../support/producer.rs"]
mod producer;
mod support;
mod trust;
