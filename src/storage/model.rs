//! A model of a storage, in which the memory orders of the count and the checks are parameters.
//!
//! No test can change the memory orders of a [`Storage`] and its `Reference`. [`Model`] does what
//! they do, step by step, so that the tests in `interleavings` can weaken an order or drop a check,
//! and must fail then.
//! `model_tests` holds the model against the storage: the same calls give the same answers.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

use super::witness::Witness;
use super::{Facts, Storage, StorageState};
use crate::sync::atomic::AtomicUsize;

/// Memory that an owner keeps, as far as tests with loom look at it.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) witness: Witness,
    /// How often the owner was dropped. An atomic of std's: loom need not look at it.
    drops: std::sync::atomic::AtomicUsize,
}

impl Memory {
    pub(super) fn drops(&self) -> usize {
        self.drops.load(Relaxed)
    }
}

/// An owner of [`Memory`], which frees it when it is dropped.
pub(super) struct Owner(pub(super) std::sync::Arc<Memory>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.witness.write();
        self.0.drops.fetch_add(1, Relaxed);
    }
}

/// What a storage and its model can do.
pub(super) trait Subject: Sized + Send + 'static {
    fn memory(&self) -> &Memory;
    fn share(&self) -> Self;
    fn state(&self) -> StorageState;
    fn is_aliased_for_good(&self) -> bool;
    fn is_unique(&mut self) -> bool;
    fn set_state(&mut self, state: StorageState) -> bool;
    fn share_out(&mut self) -> bool;
    fn reclaim(&mut self) -> bool;
    fn into_owner(self) -> Result<Owner, Self>;
}

/// A storage whose memory tests can reach through a shared reference.
pub(super) struct Real(pub(super) Storage);

impl Real {
    pub(super) fn new(memory: std::sync::Arc<Memory>) -> Self {
        // SAFETY: the memory is a record of accesses, which any code may have.
        Self(unsafe { Storage::exclusive(Owner(memory)) })
    }
}

impl Subject for Real {
    fn memory(&self) -> &Memory {
        // SAFETY: all that is done with the owner is to record an access, which any thread may.
        let owner = unsafe { self.0.owner_ref_unchecked::<Owner>() };
        &owner.expect("made by `new`").0
    }

    fn share(&self) -> Self {
        Self(self.0.share())
    }

    fn state(&self) -> StorageState {
        self.0.state()
    }

    fn is_aliased_for_good(&self) -> bool {
        self.0.is_aliased_for_good()
    }

    fn is_unique(&mut self) -> bool {
        self.0.is_unique()
    }

    fn set_state(&mut self, state: StorageState) -> bool {
        // SAFETY: no code reads or writes the memory of the test's owner, so every state is true of
        // it.
        unsafe { self.0.set_state(state) }
    }

    fn share_out(&mut self) -> bool {
        self.0.share_out()
    }

    fn reclaim(&mut self) -> bool {
        // SAFETY: no code reads or writes the memory of the test's owner.
        unsafe { self.0.reclaim() }
    }

    fn into_owner(self) -> Result<Owner, Self> {
        self.0.into_owner().map_err(Self)
    }
}

/// The orders and the checks of a [`Model`].
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// The order in which a dropped reference is subtracted from the count.
    pub(super) subtract: Ordering,
    /// The order in which the count is read between the last subtraction and the drop of the owner.
    pub(super) last: Ordering,
    /// The order in which the count is read to find out whether this is the only reference.
    pub(super) unique: Ordering,
    /// Whether the state is changed through the only reference alone.
    pub(super) changes_alone: bool,
    /// Whether the owner is taken out through the only reference alone.
    pub(super) takes_alone: bool,
}

impl Rules {
    /// Those of a [`Storage`] and its `Reference`.
    pub(super) const REAL: Self = Self {
        subtract: Release,
        last: Acquire,
        unique: Acquire,
        changes_alone: true,
        takes_alone: true,
    };
}

struct ModelInner {
    count: AtomicUsize,
    facts: std::sync::Mutex<Facts>,
    facts_witness: Witness,
    memory: std::sync::Arc<Memory>,
    owner: std::sync::Mutex<Option<Owner>>,
}

/// One reference to a modelled storage. The `Arc` keeps the model's own memory, and counts nothing.
pub(super) struct Model {
    inner: std::sync::Arc<ModelInner>,
    rules: Rules,
}

impl Model {
    pub(super) fn new(rules: Rules, memory: std::sync::Arc<Memory>) -> Self {
        let state = StorageState::Exclusive;
        let facts = Facts { state, copied: false, shared_out: false };
        let inner = ModelInner {
            count: AtomicUsize::new(1),
            facts: std::sync::Mutex::new(facts),
            facts_witness: Witness::default(),
            memory: std::sync::Arc::clone(&memory),
            owner: std::sync::Mutex::new(Some(Owner(memory))),
        };
        Self { inner: std::sync::Arc::new(inner), rules }
    }

    fn facts(&self) -> Facts {
        self.inner.facts_witness.read();
        *self.inner.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, facts: Facts) {
        self.inner.facts_witness.write();
        *self.inner.facts.lock().unwrap_or_else(PoisonError::into_inner) = facts;
    }

    fn may_change(&mut self) -> bool {
        self.is_unique() || !self.rules.changes_alone
    }

    fn take_owner(&self) -> Option<Owner> {
        self.inner.owner.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // A test that failed unwinds, and loom's atomics are not used any more.
        if std::thread::panicking() {
            return;
        }
        if self.inner.count.fetch_sub(1, self.rules.subtract) == 1 {
            self.inner.count.load(self.rules.last);
            drop(self.take_owner());
        }
    }
}

impl Subject for Model {
    fn memory(&self) -> &Memory {
        &self.inner.memory
    }

    fn share(&self) -> Self {
        self.inner.count.fetch_add(1, Relaxed);
        Self { inner: std::sync::Arc::clone(&self.inner), rules: self.rules }
    }

    fn state(&self) -> StorageState {
        self.facts().state
    }

    fn is_aliased_for_good(&self) -> bool {
        let facts = self.facts();
        matches!(facts.state, StorageState::Aliased { .. }) && !facts.shared_out
    }

    fn is_unique(&mut self) -> bool {
        self.inner.count.load(self.rules.unique) == 1
    }

    fn set_state(&mut self, state: StorageState) -> bool {
        let may_change = self.may_change();
        if may_change {
            self.change(Facts { state, shared_out: false, ..self.facts() });
        }
        may_change
    }

    fn share_out(&mut self) -> bool {
        let is_exclusive = self.may_change() && self.state() == StorageState::Exclusive;
        if is_exclusive {
            let state = StorageState::Aliased { writable: true };
            self.change(Facts { state, shared_out: true, ..self.facts() });
        }
        is_exclusive
    }

    fn reclaim(&mut self) -> bool {
        if self.may_change() && self.facts().shared_out {
            let state = StorageState::Exclusive;
            self.change(Facts { state, shared_out: false, ..self.facts() });
        }
        !self.facts().shared_out
    }

    fn into_owner(mut self) -> Result<Owner, Self> {
        if !self.is_unique() && self.rules.takes_alone {
            return Err(self);
        }
        match self.take_owner() {
            Some(owner) => {
                // The owner is out: this reference drops nothing.
                let mut forgotten = std::mem::ManuallyDrop::new(self);
                // SAFETY: `forgotten` is not used or dropped afterwards.
                unsafe { std::ptr::drop_in_place(&raw mut forgotten.inner) };
                Ok(owner)
            }
            None => Err(self),
        }
    }
}
