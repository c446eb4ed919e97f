//! A slot for the state that the CUDA layer keeps for memory of a device.
//!
//! Most memory is on the host. For it, the empty slot costs one word.
//!
//! Invariant: the slot is set at most once, and its content stays until the slot is dropped.

use std::any::Any;
#[cfg(feature = "cuda")]
use std::ptr;

#[cfg(feature = "cuda")]
use crate::sync::Arc;
use crate::sync::atomic::{AtomicPtr, Ordering};

/// An `Arc` of a type that the CUDA layer knows.
type State = Box<dyn Any + Send + Sync>;

/// A slot that is empty or holds an `Arc`, and is never emptied.
#[derive(Default)]
pub(crate) struct DeviceStateCell(AtomicPtr<State>);

impl DeviceStateCell {
    /// Returns the content of the slot, if it is a `T`.
    #[cfg(feature = "cuda")]
    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let state = self.0.load(Ordering::Acquire);
        // SAFETY: `get_or_set` put the address of a `State` there, which only `drop` frees; the
        // acquiring load sees what was written before the address was.
        let state = unsafe { state.as_ref() }?;
        state.downcast_ref::<Arc<T>>().map(Arc::clone)
    }

    /// Puts `state` in the slot if the slot is empty, and returns the content of the slot.
    #[cfg(feature = "cuda")]
    pub(crate) fn get_or_set<T: Send + Sync + 'static>(&self, state: Arc<T>) -> Arc<T> {
        let new: *mut State = Box::into_raw(Box::new(Box::new(Arc::clone(&state)) as State));
        let outcome =
            self.0.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire);
        if outcome.is_err() {
            // SAFETY: the address came from `Box::into_raw` just above, and was not put in the
            // slot.
            drop(unsafe { Box::from_raw(new) });
        }
        self.get().unwrap_or(state)
    }
}

impl Drop for DeviceStateCell {
    #[inline]
    fn drop(&mut self) {
        // No other reference is left, so any order gives the last value.
        let state = self.0.load(Ordering::Relaxed);
        if !state.is_null() {
            release(state);
        }
    }
}

/// Frees the content of a slot. A function of its own, so that the code of `drop` stays small.
#[cold]
#[inline(never)]
fn release(state: *mut State) {
    // SAFETY: `drop` calls this once, with the address that `get_or_set` got from `Box::into_raw`.
    drop(unsafe { Box::from_raw(state) });
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use super::*;

    #[test]
    fn the_first_state_stays() {
        let cell = DeviceStateCell::default();
        assert!(cell.get::<u8>().is_none());
        let first = Arc::new(1_u8);
        assert!(Arc::ptr_eq(&cell.get_or_set(Arc::clone(&first)), &first));
        assert!(Arc::ptr_eq(&cell.get_or_set(Arc::new(2_u8)), &first));
        assert!(cell.get::<u16>().is_none(), "of another type");
        assert_eq!(Arc::strong_count(&first), 2);
        drop(cell);
        assert_eq!(Arc::strong_count(&first), 1);
    }
}
