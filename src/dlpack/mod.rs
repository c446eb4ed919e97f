//! DLPack's structs, handed out and consumed: both the versioned one and the older one.
//!
//! [`managed`] has what the two structs have in common, [`exported`] makes structs of our buffers,
//! [`validate`] reads descriptions from elsewhere, and [`imported`] consumes structs. Nothing
//! behind a struct from elsewhere is read before its version, and no array before its length and
//! address were checked.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

mod exported;
mod imported;
mod managed;
mod validate;

pub use exported::Exported;
pub(crate) use exported::{describe, export};
pub use imported::ManagedTensor;
pub(crate) use imported::{Consumed, consume};
pub use managed::ManagedStruct;
pub(crate) use managed::{IS_COPIED, PADDED, Payload, READ_ONLY};
