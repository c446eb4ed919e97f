//! CUDA: memory of devices, copied to them, from them and between them, each in the order of a stream.
//!
//! A copy has a source and a target, which may lie on the host, on one device or on two. What crosses between
//! places crosses once and densely: broadcast elements one time, gaps not at all, in the order of the target's
//! strides. On a device a kernel gathers the elements ([`gather`]), on the host the engine of `copy` does,
//! block by block through page-locked memory ([`staging`], [`blocks`]) unless the memory is page-locked itself.
//!
//! Invariants:
//! * work on a device's memory is put on a stream after what [`Order`] says it has to wait for, and `Order` is
//!   told of it afterwards;
//! * no call returns while a device may still read or write host memory that is not in its care, or memory of a
//!   device that somebody else owns: they may free it at any time. [`Transfer`] returns earlier, and owns both.

mod blocks;
mod context;
mod crossing;
mod driver;
mod gather;
mod memory;
mod order;
mod staging;
mod stream;
mod transfer;

pub(crate) use order::Order;
pub use stream::Stream;
pub use transfer::Transfer;
pub(crate) use transfer::{copy_into_on, copy_to, hand_to_default, is_pinned};

use crate::{Device, Result};

/// Whether this machine has this CUDA device, and a driver for it.
///
/// # Errors
/// [`Error::NoCuda`](crate::Error::NoCuda), which says what is missing; [`Error::Cuda`](crate::Error::Cuda).
pub(crate) fn require(device: Device) -> Result<()> {
    context::Context::of(device).map(drop)
}
