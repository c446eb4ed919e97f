//! The rayon pool whose threads help with copies.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::helpers::Helper;

/// Maximum number of helpers that wait in queues of pools. Where all threads of a pool are busy, or
/// are not there any more because the process is the child of a fork, its queue would grow with
/// every copy.
const QUEUED_HELPERS_MAX: usize = 256;

/// How many helpers wait in queues of pools.
static QUEUED_HELPERS: AtomicUsize = AtomicUsize::new(0);

/// The process that uses pools: the one that asked first, 0 before that, or [`NO_PROCESS`].
///
/// The child of a fork must not even offer helpers. It inherits the pools without their threads,
/// and maybe with locks that these threads held: rayon takes one to wake a thread, and a child
/// would wait for it without end.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// No process has this number.
const NO_PROCESS: u32 = u32::MAX;

/// Number of threads to share work among, this one included: those of the pool that this thread is
/// in, or of the global pool.
pub(super) fn threads() -> usize {
    let this = std::process::id();
    match PROCESS.compare_exchange(0, this, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {}
        Err(first) if first == this => {}
        Err(_) => return 1,
    }
    // Rayon panics where it cannot start the threads of the global pool, and would do so each time.
    std::panic::catch_unwind(rayon::current_num_threads).unwrap_or_else(|_| {
        PROCESS.store(NO_PROCESS, Ordering::Relaxed);
        1
    })
}

/// Puts a helper into the queue of the pool that this thread is in, or of the global pool.
pub(super) fn offer(helper: Helper) {
    if QUEUED_HELPERS.fetch_add(1, Ordering::Relaxed) >= QUEUED_HELPERS_MAX {
        QUEUED_HELPERS.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    rayon::spawn(|| {
        QUEUED_HELPERS.fetch_sub(1, Ordering::Relaxed);
        helper.run();
    });
}
