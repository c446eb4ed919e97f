//! The rayon pool whose threads help with copies.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use super::helpers::Helper;

/// Maximum number of helpers that wait in one queue. If all threads of a pool are busy, or do not
/// exist because the process is the child of a fork, its queues would grow with every copy.
const QUEUED_HELPERS_MAX: usize = 256;

/// Number of helpers in the queue of the global pool that threads outside of pools use.
static QUEUED_FROM_OUTSIDE: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

thread_local! {
    /// Number of helpers in the queue of this thread, if it is a thread of a pool. Each queue is
    /// counted by itself: a pool that never runs its helpers must not keep other pools from getting
    /// some.
    static QUEUED_HERE: Arc<AtomicUsize> = Arc::default();
}

/// The process that uses pools: the one that called [`threads`] first, 0 before that, or
/// [`NO_PROCESS`].
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
        Ok(_) if is_pool_here() => {}
        Err(first) if first == this => {}
        Ok(_) => return without_pools(),
        Err(_) => return 1,
    }
    pool_size().unwrap_or_else(without_pools)
}

/// Makes every later copy of this process run on one thread.
fn without_pools() -> usize {
    PROCESS.store(NO_PROCESS, Ordering::Relaxed);
    1
}

/// Number of threads of the pool that this thread is in, or of the global pool; `None` if there is
/// no pool.
fn pool_size() -> Option<usize> {
    // Rayon panics where it cannot start the threads of the global pool, and would do so each time.
    std::panic::catch_unwind(rayon::current_num_threads).ok()
}

/// Whether this process has as many threads as its pool should have. The first copy may be made by
/// the child of a fork, and the parent may have started the pool without copying anything.
fn is_pool_here() -> bool {
    let Some(size) = pool_size() else { return false };
    // Systems without this folder do not tell how many threads there are.
    std::fs::read_dir("/proc/self/task").map_or(true, |threads| threads.count() >= size)
}

/// Puts a helper into the queue of the pool that this thread is in, or of the global pool.
pub(super) fn offer(helper: Helper) {
    let Some(queued) = queued() else { return };
    if queued.fetch_add(1, Ordering::Relaxed) >= QUEUED_HELPERS_MAX {
        queued.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    rayon::spawn(move || {
        queued.fetch_sub(1, Ordering::Relaxed);
        helper.run();
    });
}

/// How many helpers wait in the queue that this thread puts them into; `None` on a thread of a pool
/// that is about to end.
fn queued() -> Option<Arc<AtomicUsize>> {
    match rayon::current_thread_index() {
        Some(_) => QUEUED_HERE.try_with(Arc::clone).ok(),
        None => Some(Arc::clone(&QUEUED_FROM_OUTSIDE)),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Arc, Barrier, Mutex};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::copy::helpers::share_out;

    /// Shares out parts that take a moment each, and returns how many threads ran some.
    fn threads_that_help() -> usize {
        let threads = Mutex::new(HashSet::new());
        share_out(64, 1, offer, &|_| {
            threads.lock().expect("no panic").insert(thread::current().id());
            thread::sleep(Duration::from_millis(1));
        });
        threads.into_inner().expect("no panic").len()
    }

    #[test]
    fn a_pool_that_runs_no_helper_leaves_other_pools_theirs() {
        let busy = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        let idle = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        let (both, end) = (Arc::new(Barrier::new(3)), Arc::new(Barrier::new(3)));
        for _ in 0..2 {
            let (both, end) = (Arc::clone(&both), Arc::clone(&end));
            busy.spawn(move || {
                both.wait();
                for _ in 0..2 * QUEUED_HELPERS_MAX {
                    share_out(1, 1, offer, &|_| {});
                }
                both.wait();
                end.wait();
            });
        }
        both.wait(); // no thread of `busy` is left for helpers
        both.wait(); // its queues are full
        assert_eq!(idle.install(threads_that_help), 2);
        end.wait();
    }
}
