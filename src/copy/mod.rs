//! The copy engine: copies elements between any two layouts of one shape. `docs/copy-engine.md`
//! describes all of it.
//!
//! A copy is planned ([`copy_plan`]: dimensions are ordered and coalesced, and one of five kernels
//! is chosen), run by several threads if it is large ([`job`]), and run by kernels ([`kernels`]).
//! Everything works on raw pointers, because code outside Rust may write the memory, and moves
//! opaque units of bytes. Only bytes of elements are read or written, never the gaps between them:
//! these may belong to another owner.
//!
//! # How threads share a copy
//!
//! The plan of a large copy is cut into numbered parts. The caller offers helpers to the rayon pool
//! that it is in ([`pool`]), or else to threads of this crate ([`workers`]). It takes parts until
//! none is left, and then waits for the parts that helpers have taken ([`helpers`]):
//!
//! ```text
//!   caller    part 0   part 1   part 2   part 3   part 4   waits ▌ returns
//!   helper A         begins  part 7   part 6   part 5 ────────────┘
//!   helper B                                                  begins: no part is left
//! ```
//!
//! While the caller waits, its thread runs no other job of the pool. (`rayon::join` would run one.)
//! Such a job could write or free the memory that is being copied, because a copy is often sound
//! only because this thread is busy with it. It could also wait for a lock that the caller holds. A
//! helper waits for nothing, so the caller's wait ends whatever locks are held. If no helper
//! begins, the caller runs all parts.

#[cfg(feature = "parallel")]
mod affinity;
mod batched_transpose;
mod bools;
mod caches;
mod copy_plan;
mod endpoints;
#[cfg(feature = "parallel")]
mod helpers;
mod job;
mod kernels;
mod line_shuffle;
mod outer_loops;
mod pixel_shuffle;
#[cfg(feature = "parallel")]
mod pool;
#[cfg(feature = "parallel")]
mod process;
#[cfg(feature = "parallel")]
mod process_number;
mod processor;
mod runs;
#[cfg(feature = "parallel")]
mod sharing;
mod shuffle_plan;
mod sink;
mod sizes;
mod store_buffer;
mod thresholds;
mod tile_grid;
mod tile_rows;
mod tiled_transpose;
#[cfg(feature = "parallel")]
mod workers;

use caches::caches;
use copy_plan::CopyPlan;
use endpoints::Endpoints;
use job::Job;
use thresholds::is_nontemporal;

pub(crate) use bools::find_invalid_bool;

use crate::Layout;

/// Whether the memory of a target was used before.
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
    let (_, inner) = plan.split_dims();
    let nontemporal = is_nontemporal((plan.kernel, inner), bytes, memory, caches);
    let ends = Endpoints { source: source.data, target: target.data };
    // SAFETY: the caller guarantees that the source's elements are readable, that the target's are
    // writable, and that no byte belongs to both; the plan reaches these bytes and no others.
    unsafe { Job::new(ends, memory, nontemporal).run(&plan, bytes) }
}

#[cfg(test)]
mod tests;
