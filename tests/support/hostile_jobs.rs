//! Jobs of a rayon pool that must not run in the middle of a copy, and a harness that has them
//! waiting in the pool's queues while every public call that copies runs.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Shape of the matrices that are copied: 4 MiB of `f32`, which threads share in any case.
pub(crate) const SHAPE: [usize; 2] = [1024, 1024];

/// How often a call is attacked at each place.
const ROUNDS: usize = 3;

/// How many jobs are queued for whichever thread takes them, besides one for each thread.
const LOOSE_JOBS: usize = 8;

/// How long the attacks of one test may take before they count as a deadlock.
const DEADLOCK_AFTER: Duration = Duration::from_secs(240);

thread_local! {
    /// Whether a copy is in progress on this thread.
    static COPYING: Cell<bool> = const { Cell::new(false) };
}

/// How many jobs ran on a thread in the middle of a copy.
static RAN_INSIDE: AtomicUsize = AtomicUsize::new(0);

/// A lock that every job wants.
static WANTED: Mutex<()> = Mutex::new(());

/// Whether the caller of a copy holds that lock.
static HELD: AtomicBool = AtomicBool::new(false);

/// A public call that copies. It passes the part that copies to [`attacked`].
pub(crate) type Call = (&'static str, fn());

fn job() {
    if COPYING.get() {
        RAN_INSIDE.fetch_add(1, Ordering::Relaxed);
    } else {
        drop(WANTED.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Runs a copy while jobs wait in the queue of each thread of the pool that this thread is in, or
/// of the global one.
pub(crate) fn attacked<R>(copy: impl FnOnce() -> R) -> R {
    let held = HELD.load(Ordering::Relaxed);
    let _lock = held.then(|| WANTED.lock().unwrap_or_else(PoisonError::into_inner));
    COPYING.set(true);
    rayon::spawn_broadcast(|_| job());
    for _ in 0..LOOSE_JOBS {
        rayon::spawn(job);
    }
    let result = copy();
    COPYING.set(false);
    result
}

/// Attacks every call: outside of pools, in pools of 1, 2 and 4 threads, and within other parallel
/// work there; without and with the lock that the jobs want.
pub(crate) fn attack(calls: &'static [Call]) {
    watched(|| {
        for held in [false, true] {
            HELD.store(held, Ordering::Relaxed);
            for call in calls {
                attack_everywhere(call);
            }
        }
        HELD.store(false, Ordering::Relaxed);
    });
}

fn attack_everywhere(&(name, run): &Call) {
    let before = RAN_INSIDE.load(Ordering::Relaxed);
    let rounds = || (0..ROUNDS).for_each(|_| run());
    rounds();
    for threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(rounds);
        pool.install(|| rayon::join(run, || rayon::join(run, run)));
        pool.scope(|scope| (0..threads).for_each(|_| scope.spawn(|_| run())));
    }
    let inside = RAN_INSIDE.load(Ordering::Relaxed) - before;
    assert_eq!(inside, 0, "jobs that ran in the middle of {name}");
}

/// Ends the process if `run` does not return.
pub(crate) fn watched<R>(run: impl FnOnce() -> R) -> R {
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if is_done.recv_timeout(DEADLOCK_AFTER) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("a copy waits without end");
            std::process::abort();
        }
    });
    let result = run();
    drop(done);
    result
}

/// Elements of a matrix of [`SHAPE`], in row-major order: they count from 0.
pub(crate) fn elements() -> Vec<f32> {
    (0..SHAPE[0] * SHAPE[1]).map(|index| index as f32).collect()
}

/// Whether these are [`elements`].
pub(crate) fn are_elements(found: &[f32]) -> bool {
    found.len() == SHAPE[0] * SHAPE[1]
        && found.iter().enumerate().all(|(index, &value)| value == index as f32)
}

/// Whether these are [`elements`] of the transposed matrix.
pub(crate) fn are_transposed(found: &[f32]) -> bool {
    let [rows, columns] = SHAPE;
    let expected = |index: usize| (index % rows * columns + index / rows) as f32;
    found.len() == rows * columns
        && found.iter().enumerate().all(|(index, &value)| value == expected(index))
}
