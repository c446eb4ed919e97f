//! The rayon pool whose threads help with copies, and which copies they help with.
//!
//! Waking a thread costs the caller about as much time as copying 512 KiB. An offer to a thread on
//! standby costs less than a microsecond. So there are three cases for callers outside of pools:
//!
//! * A copy of [`WAKING_MIN_BYTES`] or more wakes a thread if none is on standby.
//! * A smaller copy has a helper if a thread is on standby.
//! * A smaller copy that follows another one closely wakes a thread, for the copies after it. A
//!   thread does this for at most two copies in [`WAKING_PERIOD`], so it loses a few percent of its
//!   time at most.
//!
//! Only threads of the global pool are on standby, and only for callers outside of pools: a pool's
//! own threads use its queues.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use super::helpers::Helper;
use super::standby::Standby;
use super::thresholds::{POOL_MIN_BYTES, WAKING_MIN_BYTES};

/// How long a thread on standby polls for the next copy: about as long as waking it takes.
const STANDBY_MAX: Duration = Duration::from_micros(50);

/// How long a thread alternates between standby and copies before its pool gets it back. Other jobs
/// of the pool may wait for the thread as long, as they do for a helper of a copy of 256 MiB. With
/// 1 ms, copies of 1 MiB in a loop are half as fast, because rayon then wakes its other threads.
const SESSION_MAX: Duration = Duration::from_millis(20);

/// Limits for a clock that stands still: polls for one helper, and helpers that a thread runs
/// before its pool gets it back. Both take longer than the limits of time above.
const POLLS_MAX: u32 = 1 << 16;
const HELPERS_MAX: usize = 1 << 13;

/// Number of polls between two times that a thread on standby looks at the clock.
const POLLS_PER_CLOCK: u32 = 8;

/// The time in which a thread wakes others for at most two copies below [`WAKING_MIN_BYTES`]. The
/// first attempt may fail: rayon wakes no thread while one is awake, even one that has no
/// processor.
const WAKING_PERIOD: Duration = Duration::from_millis(1);

/// A thread that has helped goes on standby only if it ends sooner than this after the offer.
/// Otherwise it began so late that the caller is likely to copy no more, or the copy took so long
/// that waking a thread for the next one costs little.
const LATE: Duration = Duration::from_millis(1);

/// Threads of the global pool that are awake and have nothing to do.
static STANDBY: Standby<Helper> = Standby::new();

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

    /// When this thread copied last, and when it woke a thread the last two times.
    static COPIED: Cell<Option<Instant>> = const { Cell::new(None) };
    static WOKE: Cell<[Option<Instant>; 2]> = const { Cell::new([None; 2]) };

    /// When this thread was last on standby.
    static STOOD_BY: Cell<Option<Instant>> = const { Cell::new(None) };
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

/// The threads that share a copy.
pub(super) struct Sharing {
    /// Their number, with the caller's thread.
    pub(super) threads: usize,
    /// How a helper is offered to them.
    pub(super) offer: fn(Helper),
}

/// Who shares a copy of `bytes` bytes with this thread; `None` if this thread copies alone.
pub(super) fn sharing(bytes: usize) -> Option<Sharing> {
    let offer = if rayon::current_thread_index().is_some() {
        (bytes >= POOL_MIN_BYTES).then_some(offer_to_pool as fn(Helper))
    } else if bytes >= WAKING_MIN_BYTES {
        Some(offer_to_any as fn(Helper))
    } else if STANDBY.has_thread() {
        Some(offer_to_standby as fn(Helper))
    } else {
        may_wake(Instant::now()).then_some(offer_to_any as fn(Helper))
    }?;
    // After the others, because it starts the global pool.
    let threads = threads();
    (threads > 1).then_some(Sharing { threads, offer })
}

/// Notes that this thread has copied enough for helpers.
pub(super) fn note_copy() {
    COPIED.set(Some(Instant::now()));
}

/// Notes that this thread wakes another.
fn note_waking(now: Instant) {
    let [_, last] = WOKE.get();
    WOKE.set([last, Some(now)]);
}

/// Whether this thread copies in a loop, and has not just woken others twice.
fn may_wake(now: Instant) -> bool {
    let is_within = |since: Option<Instant>, time| {
        since.is_some_and(|since| now.saturating_duration_since(since) < time)
    };
    is_within(COPIED.get(), STANDBY_MAX) && !is_within(WOKE.get()[0], WAKING_PERIOD)
}

/// Number of threads to share work among, this one included: those of the pool that this thread is
/// in, or of the global pool.
fn threads() -> usize {
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

/// Hands a helper to a thread of the global pool on standby. Drops it if there is none.
fn offer_to_standby(helper: Helper) {
    let _ = STANDBY.offer(helper);
}

/// Hands a helper to a thread of the global pool on standby, or wakes one.
fn offer_to_any(helper: Helper) {
    let Err(helper) = STANDBY.offer(helper) else { return };
    let now = Instant::now();
    note_waking(now);
    enqueue(move || {
        helper.run();
        if may_stand_by(now, Instant::now()) {
            stand_by();
        }
    });
}

/// Puts a helper into the queue of the pool that this thread is in, or of the global pool.
fn offer_to_pool(helper: Helper) {
    enqueue(|| helper.run());
}

fn enqueue(job: impl FnOnce() + Send + 'static) {
    let Some(queued) = queued() else { return };
    if queued.fetch_add(1, Ordering::Relaxed) >= QUEUED_HELPERS_MAX {
        queued.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    rayon::spawn(move || {
        queued.fetch_sub(1, Ordering::Relaxed);
        job();
    });
}

/// Whether this thread goes on standby after a helper that was offered at `offered`. Helpers that
/// were put into its queue before it was on standby last do not keep it from the pool once more.
fn may_stand_by(offered: Instant, now: Instant) -> bool {
    now.saturating_duration_since(offered) < LATE
        && STOOD_BY.get().is_none_or(|ended| offered > ended)
}

/// Runs helpers that are offered to this thread, as long as they follow each other closely.
///
/// For a limited time, because jobs of the pool may be waiting for this thread. None of them runs
/// here: it could fork, and the child would find the lock of [`STANDBY`] as another thread left it.
fn stand_by() {
    let began = Instant::now();
    for _ in 0..HELPERS_MAX {
        let (idle_since, mut polls) = (Instant::now(), 0_u32);
        let is_over = || {
            polls += 1;
            let looks_at_clock = polls % POLLS_PER_CLOCK == 0;
            polls == POLLS_MAX || looks_at_clock && idle_since.elapsed() >= STANDBY_MAX
        };
        let Some(helper) = STANDBY.wait(is_over) else { break };
        helper.run();
        if began.elapsed() >= SESSION_MAX {
            break;
        }
    }
    STOOD_BY.set(Some(Instant::now()));
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
        share_out(64, 1, offer_to_pool, &|_| {
            threads.lock().expect("no panic").insert(thread::current().id());
            thread::sleep(Duration::from_millis(1));
        });
        threads.into_inner().expect("no panic").len()
    }

    #[test]
    fn a_thread_that_copies_in_a_loop_wakes_others_twice_in_a_period() {
        let now = Instant::now();
        assert!(!may_wake(now), "the first copy");
        COPIED.set(Some(now));
        assert!(may_wake(now));
        assert!(!may_wake(now + STANDBY_MAX), "a copy now and then");
        note_waking(now);
        assert!(may_wake(now), "the first attempt may have failed");
        note_waking(now);
        assert!(!may_wake(now));
        let later = now + WAKING_PERIOD;
        COPIED.set(Some(later));
        assert!(may_wake(later));
    }

    #[test]
    fn helpers_from_before_a_standby_begin_no_other() {
        let offered = Instant::now();
        assert!(may_stand_by(offered, offered));
        assert!(!may_stand_by(offered, offered + LATE), "an old offer");
        stand_by(); // no helper comes
        assert!(!may_stand_by(offered, offered), "the thread has been on standby since");
        let later = Instant::now() + Duration::from_nanos(1);
        assert!(may_stand_by(later, later));
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
                    share_out(1, 1, offer_to_pool, &|_| {});
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
