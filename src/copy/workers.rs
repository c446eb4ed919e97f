//! Threads that wait for work: first awake, for a program that copies in a loop, and then asleep.
//!
//! Waking a thread takes longer than a copy of 1 MiB. So a worker that has finished something does
//! not sleep at once: it is on *standby*, which means that it polls for the next offer.
//!
//! ```text
//!   caller     │ copy       │    │ copy       │    │ copy       │
//!              │ wakes      │    │ offers     │    │ offers     │
//!   worker     ....... works, on standby │ works │ polls │ works │ polls, sleeps
//! ```
//!
//! Invariants, kept under the lock:
//! * There are at most as many offers as workers on standby and workers that were woken and have
//!   not looked for an offer yet. So each offer is taken.
//! * A worker that leaves standby takes an offer with it if there is one.
//! * At most `max` workers are started.
//!
//! A thread that holds the lock runs no code but that of this module, and of the allocator if the
//! vector of offers grows.

#![forbid(unsafe_code)]

use std::sync::PoisonError;

use super::affinity::{self, Affinity};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Where workers wait for offers: `T` is what is offered to them.
pub(super) struct Workers<T> {
    max: usize,
    state: Mutex<State<T>>,
    /// The number of workers on standby that have no offer yet, and of offers that no worker has
    /// taken: what `state` holds, to be read without the lock. Relaxed: both are only hints.
    free: AtomicUsize,
    offered: AtomicUsize,
}

struct State<T> {
    started: usize,
    standby: usize,
    /// Those that sleep and were not woken. The last one to fall asleep is woken first.
    asleep: Vec<Arc<Worker>>,
    offers: Vec<T>,
}

/// A thread that takes offers, as other threads see it.
pub(super) struct Worker {
    woken: Condvar,
    affinity: Option<Affinity>,
}

impl Worker {
    pub(super) fn new(affinity: Option<Affinity>) -> Arc<Self> {
        Arc::new(Self { woken: Condvar::new(), affinity })
    }

    /// Moves the worker, if it can be moved, away from a processor.
    pub(super) fn avoid(&self, processor: Option<usize>) {
        if let (Some(affinity), Some(processor)) = (&self.affinity, processor) {
            affinity.avoid(processor);
        }
    }

    /// Lets the worker, which is this thread, use all of its processors again.
    pub(super) fn settle(&self) {
        if let Some(affinity) = &self.affinity {
            affinity.settle();
        }
    }

    /// Wakes the worker, on another processor than that of this thread if that is possible.
    fn wake(&self) {
        self.avoid(affinity::processor());
        self.woken.notify_one();
    }
}

/// What became of an offer.
#[derive(Debug, PartialEq)]
pub(super) enum Offered<T> {
    /// A worker takes it.
    Taken,
    /// No worker waits. The caller starts one, which begins with this.
    Start(T),
    /// No worker takes it.
    Refused(T),
}

impl<T> Workers<T> {
    /// No worker yet, and at most `max` later.
    pub(super) fn new(max: usize) -> Self {
        let state = State { started: 0, standby: 0, asleep: Vec::new(), offers: Vec::new() };
        Self {
            max,
            state: Mutex::new(state),
            free: AtomicUsize::new(0),
            offered: AtomicUsize::new(0),
        }
    }

    /// Maximum number of workers.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Whether there is likely to be a worker on standby for an offer.
    #[inline]
    pub(super) fn has_standby(&self) -> bool {
        self.free.load(Ordering::Relaxed) > 0
    }

    /// Hands `offer` to a worker on standby, or else back. Does not wait.
    pub(super) fn offer_to_standby(&self, offer: T) -> Offered<T> {
        if !self.has_standby() {
            return Offered::Refused(offer);
        }
        let Ok(mut state) = self.state.try_lock() else { return Offered::Refused(offer) };
        if state.offers.len() >= state.standby {
            return Offered::Refused(offer);
        }
        state.offers.push(offer);
        self.publish(&state);
        Offered::Taken
    }

    /// Hands `offer` to a worker: to one on standby, or to one that this wakes, or to a new one.
    /// Does not wait.
    pub(super) fn offer(&self, offer: T) -> Offered<T> {
        let Ok(mut state) = self.state.try_lock() else { return Offered::Refused(offer) };
        let has_standby = state.offers.len() < state.standby;
        let sleeper = if has_standby { None } else { state.asleep.pop() };
        if has_standby || sleeper.is_some() {
            state.offers.push(offer);
            self.publish(&state);
            drop(state); // so that the worker does not wake only to wait for the lock
            if let Some(worker) = sleeper {
                worker.wake();
            }
            return Offered::Taken;
        }
        if state.started == self.max {
            return Offered::Refused(offer);
        }
        state.started += 1;
        Offered::Start(offer)
    }

    /// Notes that a worker could not be started, so that a later offer may start one.
    pub(super) fn did_not_start(&self) {
        self.lock().started -= 1;
    }

    /// Waits for an offer: on standby until `is_over` returns true, and then asleep. `this` is the
    /// worker of this thread.
    pub(super) fn next(&self, this: &Arc<Worker>, mut is_over: impl FnMut() -> bool) -> T {
        let mut state = self.lock();
        state.standby += 1;
        let mut polls = true;
        while polls {
            self.publish(&state);
            drop(state);
            polls = self.poll(&mut is_over);
            state = self.lock();
            if let Some(offer) = state.offers.pop() {
                state.standby -= 1;
                self.publish(&state);
                return offer;
            }
        }
        state.standby -= 1;
        self.publish(&state);
        loop {
            state.asleep.push(Arc::clone(this));
            state = this.woken.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep.retain(|worker| !Arc::ptr_eq(worker, this)); // woken by the system
            if let Some(offer) = state.offers.pop() {
                self.publish(&state);
                return offer;
            }
            drop(state);
            this.settle();
            state = self.lock();
        }
    }

    /// Returns true when there is an offer, or false when `is_over` returns true.
    fn poll(&self, is_over: &mut impl FnMut() -> bool) -> bool {
        while self.offered.load(Ordering::Relaxed) == 0 {
            if is_over() {
                return false;
            }
            std::hint::spin_loop();
        }
        true
    }

    fn publish(&self, state: &State<T>) {
        self.free.store(state.standby.saturating_sub(state.offers.len()), Ordering::Relaxed);
        self.offered.store(state.offers.len(), Ordering::Relaxed);
    }

    /// No code panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
