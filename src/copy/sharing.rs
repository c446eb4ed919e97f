//! Who helps with a copy.
//!
//! The threads of the rayon pool that the caller is in, or else dlbridge's own [`WORKERS`]. Waking
//! one of these costs the caller about as much time as copying 1 MiB. An offer to a worker on
//! standby costs less than a microsecond. So there are three cases for callers outside of pools:
//!
//! * A copy of [`WAKING_MIN_BYTES`] or more wakes a worker if none is on standby.
//! * A smaller copy has a helper if a worker is on standby.
//! * A smaller copy that follows another one closely wakes a worker, for the copies after it. A
//!   thread does this for at most one copy in [`WAKING_PERIOD`], so it loses a few percent of its
//!   time at most.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use super::affinity::{self, Affinity};
use super::helpers::Helper;
use super::pool;
use super::process::Process;
use super::thresholds::{POOL_MIN_BYTES, WAKING_MIN_BYTES};
use super::workers::{Offered, Worker, Workers};

/// How long a worker polls for the next copy: about as long as waking it takes.
const STANDBY_MAX: Duration = Duration::from_micros(100);

/// The same as a number of polls, for a clock that stands still. It takes longer.
const POLLS_MAX: u32 = 1 << 16;

/// Number of polls between two times that a worker on standby looks at the clock.
const POLLS_PER_CLOCK: u32 = 8;

/// The time in which a thread wakes a worker for at most one copy below [`WAKING_MIN_BYTES`].
const WAKING_PERIOD: Duration = Duration::from_millis(1);

/// The threads that help callers outside of pools. The first copy that needs one starts it.
static WORKERS: LazyLock<Workers<Helper>> = LazyLock::new(|| Workers::new(threads() - 1));

/// The process that has [`WORKERS`]. The child of a fork must not even look at them: it lacks the
/// threads, and another thread may have held the lock when the process forked.
static PROCESS: Process = Process::new();

thread_local! {
    /// When this thread copied last.
    static COPIED: Cell<Option<Instant>> = const { Cell::new(None) };

    /// When this thread last woke a worker for a small copy.
    static WOKE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The threads that share a copy.
pub(super) struct Sharing {
    /// Their number, with the caller's thread.
    pub(super) threads: usize,
    /// How a helper is offered to them.
    pub(super) offer: fn(Helper),
}

/// Who shares a copy of `bytes` bytes with this thread; `None` if this thread copies alone.
pub(super) fn sharing(bytes: usize) -> Option<Sharing> {
    let sharing = if rayon::current_thread_index().is_none() {
        with_workers(bytes)?
    } else if bytes >= POOL_MIN_BYTES {
        Sharing { threads: pool::threads(), offer: pool::offer }
    } else {
        return None;
    };
    (sharing.threads > 1).then_some(sharing)
}

fn with_workers(bytes: usize) -> Option<Sharing> {
    if !PROCESS.is_this() || WORKERS.max() == 0 {
        return None;
    }
    let offer = if bytes >= WAKING_MIN_BYTES {
        offer_to_any
    } else if WORKERS.has_standby() {
        offer_to_standby
    } else if may_wake(Instant::now()) {
        offer_to_any
    } else {
        return None;
    };
    Some(Sharing { threads: WORKERS.max() + 1, offer })
}

/// Notes that this thread has copied enough for helpers.
pub(super) fn note_copy() {
    COPIED.set(Some(Instant::now()));
}

/// Whether this thread copies in a loop, and has not just woken a worker. Notes that it wakes one.
fn may_wake(now: Instant) -> bool {
    let is_within = |since: Option<Instant>, time| {
        since.is_some_and(|since| now.saturating_duration_since(since) < time)
    };
    let may_wake = is_within(COPIED.get(), STANDBY_MAX) && !is_within(WOKE.get(), WAKING_PERIOD);
    if may_wake {
        WOKE.set(Some(now));
    }
    may_wake
}

/// Number of threads that share a copy outside of pools: as rayon's global pool would have.
fn threads() -> usize {
    let wanted = std::env::var("RAYON_NUM_THREADS").ok().and_then(|number| number.parse().ok());
    let available = || thread::available_parallelism().map_or(1, usize::from);
    wanted.filter(|&number| number > 0).unwrap_or_else(available)
}

/// Hands a helper to a worker on standby. Drops it if there is none.
fn offer_to_standby(helper: Helper) {
    let _ = WORKERS.offer_to_standby(helper);
}

/// Hands a helper to a worker. Drops it if all are busy.
fn offer_to_any(helper: Helper) {
    if let Offered::Start(helper) = WORKERS.offer(helper) {
        start(helper);
    }
}

/// Starts a worker, which runs `helper` first. Drops `helper` if the system starts no thread.
fn start(helper: Helper) {
    let processor = affinity::processor();
    let worker = thread::Builder::new().name("dlbridge".to_owned());
    if worker.spawn(move || work(helper, processor)).is_err() {
        WORKERS.did_not_start();
    }
}

/// What a worker does. It does not end.
fn work(first: Helper, callers_processor: Option<usize>) -> ! {
    let worker = Worker::new(Affinity::of_this_thread());
    worker.avoid(callers_processor);
    let mut helper = first;
    loop {
        worker.settle(); // first of all: the threads that a helper starts inherit the processors
        helper.run();
        helper = WORKERS.next(&worker, standby_end());
    }
}

/// Tells whether a standby that begins with this call is over.
fn standby_end() -> impl FnMut() -> bool {
    let (began, mut polls) = (Instant::now(), 0_u32);
    move || {
        polls += 1;
        let looks_at_clock = polls % POLLS_PER_CLOCK == 0;
        polls >= POLLS_MAX || looks_at_clock && began.elapsed() >= STANDBY_MAX
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_copies_in_a_loop_wakes_a_worker_once_in_a_period() {
        let now = Instant::now();
        assert!(!may_wake(now), "the first copy");
        COPIED.set(Some(now));
        assert!(!may_wake(now + STANDBY_MAX), "a copy now and then");
        assert!(may_wake(now));
        assert!(!may_wake(now), "a worker was just woken");
        let later = now + WAKING_PERIOD;
        COPIED.set(Some(later));
        assert!(may_wake(later));
    }

    #[test]
    fn standby_ends_although_the_clock_may_stand_still() {
        let mut is_over = standby_end();
        assert!(!is_over(), "at once");
        assert!((0..POLLS_MAX).any(|_| is_over()));
    }
}
