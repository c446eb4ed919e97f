//! The rayon pool that the caller is in, whose threads help with its copies.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::helpers::Helper;
use super::process::Process;

/// Maximum number of helpers that wait in one queue. If all threads of a pool are busy, or do not
/// exist because the process is the child of a fork, its queues would grow with every copy.
const QUEUED_HELPERS_MAX: usize = 256;

thread_local! {
    /// Number of helpers in the queue of this thread. Each queue is counted by itself: a pool that
    /// never runs its helpers must not keep other pools from getting some.
    static QUEUED: Arc<AtomicUsize> = Arc::default();
}

/// The process that has pools. The child of a fork must not even offer helpers: it inherits the
/// pools without their threads, and maybe with locks that these threads held. Rayon takes one to
/// wake a thread, and a child would wait for it without end.
static PROCESS: Process = Process::new();

/// Number of threads of the pool that this thread is in, this one included. 1 if the others do not
/// exist.
pub(super) fn threads() -> usize {
    let size = rayon::current_num_threads();
    if PROCESS.is_this_if(|| has_threads(size)) { size } else { 1 }
}

/// Whether this process has at least `count` threads. The first copy in a pool may be made by the
/// child of a fork.
fn has_threads(count: usize) -> bool {
    // Systems without this folder do not tell how many threads there are.
    std::fs::read_dir("/proc/self/task").map_or(true, |threads| threads.count() >= count)
}

/// Puts a helper into the queue of the pool that this thread is in.
pub(super) fn offer(helper: Helper) {
    // There is no counter on a thread of a pool that is about to end.
    let Ok(queued) = QUEUED.try_with(Arc::clone) else { return };
    if queued.fetch_add(1, Ordering::Relaxed) >= QUEUED_HELPERS_MAX {
        queued.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    rayon::spawn(move || {
        queued.fetch_sub(1, Ordering::Relaxed);
        helper.run();
    });
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
