//! The copy engine: moves elements between any two layouts of one shape.
//!
//! A copy is planned ([`copy_plan`]: dimensions are ordered and coalesced, and one of five kernels
//! is chosen), run by several threads where it is large ([`job`]), and run by kernels
//! ([`kernels`]). Everything works on raw pointers, because the memory may have writers that Rust
//! does not know, and moves opaque units of bytes. Only bytes of elements are read or written,
//! never the gaps between them: these may belong to another owner.
//!
//! # How threads share a copy
//!
//! The plan of a large copy is cut into numbered parts. The caller offers helpers to a rayon pool
//! ([`pool`]), takes parts until none is left, and then waits for the parts that helpers have taken
//! ([`helpers`]):
//!
//! ```text
//!   caller    part 0   part 1   part 2   part 3   waits ▌ returns
//!   helper A         begins  part 7   part 6   part 5 ──┘
//!   helper B                                                  begins: no part is left
//! ```
//!
//! The wait is blocked: the caller's thread runs no other job of the pool, which `rayon::join`
//! would let it do. Such a job could write or free the memory that is being copied, because what
//! makes the copy sound is often that this very thread is busy, or could want a lock that the
//! caller holds. No helper waits for anything, so the wait ends whatever locks are held, and all
//! of a copy is done by the caller alone where no helper begins.

mod batched_transpose;
mod bools;
mod copy_plan;
mod endpoints;
#[cfg(feature = "parallel")]
mod helpers;
mod job;
mod kernels;
#[cfg(feature = "parallel")]
mod pool;
mod processor;
mod shuffle_plan;
mod sink;
mod sizes;
mod store_buffer;
mod tile_grid;
mod tiled_transpose;

use copy_plan::{CopyPlan, Kernel};
use endpoints::Endpoints;
use job::Job;

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

/// Elements whose first one is at `data`.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a, P> {
    pub(crate) data: P,
    pub(crate) layout: &'a Layout,
}

/// Copies every element to its position in another layout of the same shape.
///
/// # Safety
/// * Every element of `source` is readable, every element of `target` writable, and no byte belongs
///   to both, nor to two elements of the target.
/// * The layouts have the same shape, and `itemsize` is the size of an element of both.
#[inline]
pub(crate) unsafe fn strided(
    source: Strided<'_, *const u8>,
    target: Strided<'_, *mut u8>,
    itemsize: usize,
    memory: Memory,
) {
    if target.layout.is_empty() {
        return;
    }
    let (from, to) = (source.layout.strides(), target.layout.strides());
    let plan = CopyPlan::new(target.layout.shape(), from, to, itemsize);
    let bytes = target.layout.len() * itemsize;
    let nontemporal = match memory {
        Memory::Used => bytes >= NONTEMPORAL_MIN_BYTES,
        Memory::Fresh => {
            bytes >= NONTEMPORAL_MIN_BYTES_FRESH && plan.kernel == Kernel::TiledTranspose
        }
    };
    let ends = Endpoints { source: source.data, target: target.data };
    // SAFETY: the caller says that all elements of both layouts are readable and writable, and none
    // of their bytes both: the plan reaches these bytes and no others.
    unsafe { Job::new(ends, nontemporal).run(&plan, bytes) }
}

#[cfg(test)]
mod tests;
