//! The copy engine: moves elements between any two layouts of one shape.
//!
//! A copy is planned ([`plan`]: dimensions are ordered and coalesced, and one of five kernels is
//! chosen), shared out among threads where it is large ([`job`]), and run ([`kernels`]). Everything
//! works on raw pointers, because the memory may have writers that Rust does not know, and moves
//! opaque units of bytes. Only bytes of elements are read or written, never the gaps between them:
//! these may belong to another owner.

mod batched_transpose;
mod bools;
mod endpoints;
mod job;
mod kernels;
mod plan;
mod processor;
mod shuffle_plan;
mod sink;
mod sizes;
mod store_buffer;
mod tile_grid;
mod tiled_transpose;

use endpoints::Endpoints;
use job::Job;
use plan::{CopyPlan, Kernel};

pub(crate) use bools::find_invalid_bool;

use crate::Layout;

/// Minimum size (bytes) of a target in used memory for non-temporal stores: such targets exceed the
/// caches that a core does not share with others.
const NONTEMPORAL_MIN_BYTES: usize = 4 << 20;

/// The same for fresh memory, which the system has just filled with zeros that are still in the
/// caches. There, non-temporal stores only pay for the scattered writes of a tiled transpose.
const NONTEMPORAL_MIN_BYTES_FRESH: usize = 16 << 20;

/// Where the memory of a target comes from.
#[derive(Clone, Copy)]
pub(crate) enum Memory {
    /// Just allocated.
    Fresh,
    /// Used before.
    Used,
}

/// Copies every element to its place in another layout of the same shape.
///
/// # Safety
/// * `source` and `target` point to the first elements; every element of `source_layout` is
///   readable, every element of `target_layout` writable, and no byte belongs to both, nor to two
///   elements of the target.
/// * The layouts have the same shape, and `itemsize` is the size of an element of both.
#[inline]
pub(crate) unsafe fn strided(
    source: *const u8,
    source_layout: &Layout,
    target: *mut u8,
    target_layout: &Layout,
    itemsize: usize,
    memory: Memory,
) {
    if target_layout.is_empty() {
        return;
    }
    let (from, to) = (source_layout.strides(), target_layout.strides());
    let plan = CopyPlan::new(target_layout.shape(), from, to, itemsize);
    let bytes = target_layout.len() * itemsize;
    let nontemporal = match memory {
        Memory::Used => bytes >= NONTEMPORAL_MIN_BYTES,
        Memory::Fresh => {
            bytes >= NONTEMPORAL_MIN_BYTES_FRESH && plan.kernel == Kernel::TiledTranspose
        }
    };
    // SAFETY: the caller says that all elements of both layouts are readable and writable, and none
    // of their bytes both: the plan reaches these bytes and no others.
    unsafe { Job::new(Endpoints { source, target }, nontemporal).run(plan, bytes) }
}

#[cfg(test)]
mod tests;
