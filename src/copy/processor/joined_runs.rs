//! Copies of runs that share cache lines of the target. They use AVX-512 BW, whose loads and stores
//! take a mask of bytes.

use std::arch::x86_64::*;

use super::interface::JoinedRuns;
use super::prefetches::prefetch_next;
use crate::copy::sizes::{CACHE_LINE_BYTES, PREFETCH_AHEAD_BYTES};

/// # Safety
/// * As [`JoinRuns`](super::interface::JoinRuns) says; the processor has AVX-512 BW.
#[target_feature(enable = "avx512bw")]
pub(super) unsafe fn join_runs(runs: &JoinedRuns) {
    let JoinedRuns { run, source_step, target_step, .. } = *runs;
    let follow = target_step == run as isize;
    // Distance of the run whose beginning is prefetched with a run.
    let ahead = source_step.wrapping_mul(PREFETCH_AHEAD_BYTES.div_ceil(run) as isize);
    for index in 0..runs.count {
        let source = runs.ends.source.wrapping_offset(index as isize * source_step);
        let target = runs.ends.target.wrapping_offset(index as isize * target_step);
        let before = if follow && index > 0 { Some(-source_step) } else { runs.before };
        // Bytes of the first line that are of the run before, and those that are of this one.
        let rest = target.addr() % CACHE_LINE_BYTES;
        let of_this = u64::MAX << rest;
        let (line, in_source) = (target.wrapping_sub(rest), source.wrapping_sub(rest));
        for line in (0..run.min(PREFETCH_AHEAD_BYTES)).step_by(CACHE_LINE_BYTES) {
            prefetch_next(source.wrapping_offset(ahead).wrapping_add(line));
        }
        // SAFETY: the mask selects bytes from `source` on, at most a line of the run, which the
        // caller says are readable. Other bytes are not accessed.
        let first = unsafe { _mm512_maskz_loadu_epi8(of_this, in_source.cast()) };
        if before.is_none() && rest > 0 {
            // SAFETY: the mask selects the first bytes of the run, which the caller says are
            // writable.
            unsafe { _mm512_mask_storeu_epi8(line.cast(), of_this, first) };
        } else {
            let before = source.wrapping_offset(before.unwrap_or(0));
            let end = before.wrapping_add(run - rest);
            // SAFETY: the mask selects the last `rest` bytes of the run before, which the caller
            // says are readable, or no bytes.
            let first = unsafe { _mm512_mask_loadu_epi8(first, !of_this, end.cast()) };
            // SAFETY: these bytes and the first ones of this run in the target, which the caller
            // says are writable. A line begins there.
            unsafe { _mm512_stream_si512(line.cast(), first) };
        }
        let mut done = CACHE_LINE_BYTES - rest;
        while done + CACHE_LINE_BYTES <= run {
            if done + PREFETCH_AHEAD_BYTES < run {
                prefetch_next(source.wrapping_add(done + PREFETCH_AHEAD_BYTES));
            }
            // SAFETY: a line's bytes of the run, which the caller says are readable.
            let bytes = unsafe { _mm512_loadu_si512(source.wrapping_add(done).cast()) };
            // SAFETY: the same bytes in the target, which the caller says are writable. After
            // `CACHE_LINE_BYTES - rest` bytes a line begins.
            unsafe { _mm512_stream_si512(target.wrapping_add(done).cast(), bytes) };
            done += CACHE_LINE_BYTES;
        }
        if runs.are_last && (index + 1 == runs.count || !follow) {
            // Less than a line is left.
            let left = (1 << (run - done)) - 1;
            // SAFETY: the mask selects the last bytes of the run, which the caller says are
            // readable.
            let last = unsafe { _mm512_maskz_loadu_epi8(left, source.wrapping_add(done).cast()) };
            // SAFETY: the same bytes in the target, which the caller says are writable.
            unsafe { _mm512_mask_storeu_epi8(target.wrapping_add(done).cast(), left, last) };
        }
    }
}
