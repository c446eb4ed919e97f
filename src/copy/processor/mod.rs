//! The code that depends on the instructions of a processor: the innermost loops of a copy, in
//! portable Rust ([`portable`]) and with vector instructions (`x86`, `neon`).
//!
//! Every function reads and writes whole elements and nothing else, so it may run beside code that
//! writes to the gaps between them. Nothing needs to be aligned.

mod interface;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
mod shuffles;
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
mod squares;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use interface::{Processor, Stores, Tile};
pub(super) use portable::{CACHED_STORES, copy_run, strided_load_runs, strided_store};

#[cfg(all(test, target_arch = "aarch64"))]
pub(super) use neon::NEON;
#[cfg(test)]
pub(super) use portable::PORTABLE;
#[cfg(all(test, target_arch = "x86_64"))]
pub(super) use x86::{AVX2, AVX512, SSE2};

/// The functions for the newest instructions that this machine has.
#[inline]
pub(super) fn detect() -> &'static Processor {
    #[cfg(target_arch = "x86_64")]
    return x86::detect();
    #[cfg(target_arch = "aarch64")]
    return &neon::NEON;
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
    &portable::PORTABLE
}
