//! The copy engine: moves elements between any two layouts of one shape.
//!
//! A copy is planned ([`plan`]: loops are ordered, fused, and one of five kernels chosen), shared out
//! among threads where it is large ([`job`]), and run ([`kernels`]). Everything works on raw pointers,
//! because the memory may have writers that Rust does not know, and moves opaque units of bytes. Only
//! bytes of elements are read or written, never the gaps between them: these may belong to somebody
//! else.

mod bools;
mod job;
mod kernels;
mod batched_transpose;
mod tiled_transpose;
mod plan;
mod processor;
mod shuffle_plan;
mod store_buffer;

use job::Job;
use plan::{Kernel, CopyPlan};

pub(crate) use bools::find_invalid_bool;

use crate::Layout;

/// What caches move, in bytes; threads should not write to the same.
const CACHE_LINE_BYTES: usize = 64;

/// Targets of so many bytes outgrow the caches that a core does not share with others, and are written
/// past them.
const NONTEMPORAL_MIN_BYTES: usize = 4 << 20;

/// In fresh memory the system has just put zeros, which are still in the caches: only scattered writes
/// to a large target pay, and only from this size on.
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
    let plan = CopyPlan::new(target_layout.shape(), source_layout.strides(), target_layout.strides(), itemsize);
    let bytes = target_layout.len() * itemsize;
    let nontemporal = match memory {
        Memory::Used => bytes >= NONTEMPORAL_MIN_BYTES,
        Memory::Fresh => bytes >= NONTEMPORAL_MIN_BYTES_FRESH && plan.kernel == Kernel::TiledTranspose,
    };
    // SAFETY: the caller's promise is the plan's.
    unsafe { Job::new(source, target, nontemporal).run(plan, bytes) }
}

#[cfg(test)]
mod tests;
