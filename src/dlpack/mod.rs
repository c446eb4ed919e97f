//! Export and import of DLPack's structs, both the versioned one and the older one.
//!
//! [`managed`] has the common operations of the two structs. [`exported`] makes structs of this
//! crate's buffers. [`validate`] reads and checks descriptions of other libraries, and [`imported`]
//! consumes their structs. The version of a struct is read before any other field. Shape and
//! strides are read only after their length and address were checked.

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
#[cfg(feature = "dlpark")]
pub(crate) use imported::unwrap_own;
pub(crate) use imported::{Consumed, consume};
pub use managed::ManagedStruct;
pub(crate) use managed::{IS_COPIED, PADDED, Payload, READ_ONLY};
