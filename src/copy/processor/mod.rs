//! The code that depends on the instructions of a processor: the innermost loops of a copy, in
//! portable Rust ([`portable`]) and with vector instructions (`x86`, `neon`).
//!
//! Every function reads and writes whole elements and nothing else, so it may run beside code that
//! writes to the gaps between them. Nothing needs to be aligned, except for the functions of
//! [`Stores`] that write only whole cache lines.

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod avx512;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod columns;
mod interface;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod joined_runs;
#[cfg(all(target_arch = "aarch64", not(miri)))]
mod neon;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod nontemporal;
mod portable;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod prefetches;
#[cfg(all(any(target_arch = "aarch64", target_arch = "x86_64"), not(miri)))]
mod shuffles;
#[cfg(all(any(target_arch = "aarch64", target_arch = "x86_64"), not(miri)))]
mod squares;
#[cfg(all(target_arch = "x86_64", not(miri)))] // Miri has few vector instructions
mod x86;

pub(super) use interface::{
    ColumnGroups, Coming, JoinedRuns, LineTile, LoadLines, Prefetch, Processor, Stores, Tile,
    TransposeLines,
};
pub(super) use portable::{CACHED_STORES, copy_run, strided_load_runs, strided_store};

#[cfg(all(test, target_arch = "aarch64", not(miri)))]
pub(super) use neon::NEON;
#[cfg(test)]
pub(super) use portable::PORTABLE;
#[cfg(all(test, target_arch = "x86_64", not(miri)))]
pub(super) use x86::{AVX2, AVX512, AVX512_VBMI, SSE2};

/// The functions for the newest instructions that this machine has.
#[inline]
pub(super) fn detect() -> &'static Processor {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    return x86::detect();
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    return &neon::NEON;
    #[cfg(any(miri, not(any(target_arch = "aarch64", target_arch = "x86_64"))))]
    &portable::PORTABLE
}
