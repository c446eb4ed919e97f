//! dlpark's managed tensors: moved out and in, taken back, and those of a hostile producer.

mod exports;
mod hostile;
mod imports;
mod own;
#[path = "../support/producer.rs"]
mod producer;
#[cfg(feature = "safetensors")]
mod safetensors;
mod support;
