//! Helpers that stay awake for a moment, for the copies of a program that copies in a loop.
//!
//! Waking a thread takes longer than a copy of 1 MiB. So a thread that has helped with a copy does
//! not sleep at once: it is on standby, which means that it polls for the next helper to run.
//!
//! ```text
//!   caller     │ copy          │    │ copy          │    │ copy          │
//!              │ wakes a thread│    │ offers        │    │ offers        │
//!   thread     .......begins, on standby │ parts    │ polls │ parts      │ polls for 50 µs, sleeps
//! ```
//!
//! Invariants, kept under the lock:
//! * There are at most as many offers as threads on standby, so each offer has a thread for it.
//! * A thread that leaves takes an offer with it if there is one. So no offer is left behind.
//!
//! Only the threads on standby wait for the lock. A thread that holds it runs no code but that of
//! this module, and of the allocator if the vector of offers grows.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where threads on standby wait for offers: `T` is what is offered to them.
pub(super) struct Standby<T> {
    state: Mutex<State<T>>,
    /// The number of threads that have no offer yet, and of offers that no thread has taken: what
    /// `state` holds, to be read without the lock. Relaxed: both are only hints.
    free: AtomicUsize,
    offered: AtomicUsize,
}

struct State<T> {
    threads: usize,
    offers: Vec<T>,
}

impl<T> Standby<T> {
    pub(super) const fn new() -> Self {
        Self {
            state: Mutex::new(State { threads: 0, offers: Vec::new() }),
            free: AtomicUsize::new(0),
            offered: AtomicUsize::new(0),
        }
    }

    /// Whether there is likely to be a thread for an offer.
    #[inline]
    pub(super) fn has_thread(&self) -> bool {
        self.free.load(Ordering::Relaxed) > 0
    }

    /// Hands `offer` to a thread on standby, or back to the caller. Does not wait.
    pub(super) fn offer(&self, offer: T) -> Result<(), T> {
        if !self.has_thread() {
            return Err(offer);
        }
        let Ok(mut state) = self.state.try_lock() else { return Err(offer) };
        if state.offers.len() == state.threads {
            return Err(offer);
        }
        state.offers.push(offer);
        self.publish(&state);
        Ok(())
    }

    /// Puts this thread on standby until there is an offer for it, or until `is_over` returns true.
    pub(super) fn wait(&self, mut is_over: impl FnMut() -> bool) -> Option<T> {
        let mut state = self.lock();
        state.threads += 1;
        self.publish(&state);
        drop(state);
        while self.offered.load(Ordering::Relaxed) == 0 && !is_over() {
            std::hint::spin_loop();
        }
        let mut state = self.lock();
        state.threads -= 1;
        let offer = state.offers.pop();
        self.publish(&state);
        offer
    }

    fn publish(&self, state: &State<T>) {
        self.free.store(state.threads - state.offers.len(), Ordering::Relaxed);
        self.offered.store(state.offers.len(), Ordering::Relaxed);
    }

    /// No code panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    /// Offers `offer` until a thread on standby takes it.
    fn offer_until_taken(standby: &Standby<usize>, offer: usize) {
        while standby.offer(offer).is_err() {
            thread::yield_now();
        }
    }

    #[test]
    fn an_offer_without_a_thread_comes_back() {
        let standby = Standby::new();
        assert_eq!(standby.offer(7), Err(7));
        assert_eq!(standby.wait(|| true), None);
        assert_eq!(standby.offer(7), Err(7), "the thread has left");
    }

    #[test]
    fn a_thread_gets_one_offer() {
        let standby = Standby::new();
        thread::scope(|scope| {
            let waits = scope.spawn(|| standby.wait(|| false));
            offer_until_taken(&standby, 7);
            assert_eq!(standby.offer(8), Err(8));
            assert_eq!(waits.join().expect("no panic"), Some(7));
        });
    }

    #[test]
    fn a_thread_that_leaves_takes_the_offer_with_it() {
        let standby = Standby::new();
        let offered = standby.wait(|| {
            assert_eq!(standby.offer(7), Ok(()));
            true
        });
        assert_eq!(offered, Some(7));
        assert!(!standby.has_thread());
    }

    #[test]
    fn each_offer_is_taken_once_where_threads_come_and_go() {
        const THREADS: usize = 3;
        let (standby, taken) = (Standby::new(), AtomicUsize::new(0));
        let end = Instant::now() + Duration::from_millis(50);
        let offered: usize = thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while Instant::now() < end {
                        let mut polls = 0..20;
                        let offer = standby.wait(|| polls.next().is_none());
                        taken.fetch_add(offer.unwrap_or(0), Ordering::Relaxed);
                    }
                });
            }
            (1..).take_while(|_| Instant::now() < end).filter(|&n| standby.offer(n).is_ok()).sum()
        });
        assert_eq!(taken.into_inner(), offered);
    }
}
