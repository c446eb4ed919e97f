//! The process that has threads, which the child of a fork lacks.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use super::process_number::process_number;

/// The process that asked first, or none. The child of a fork is another process.
pub(super) struct Process(AtomicU32);

/// No process has this number, nor [`NONE`].
const NONE: u32 = u32::MAX;
const NOT_ASKED: u32 = 0;

impl Process {
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(NOT_ASKED))
    }

    /// Whether this process was the first to ask.
    pub(super) fn is_this(&self) -> bool {
        self.is_this_if(|| true)
    }

    /// Whether this process was the first to ask, and `may_be` was true when it did.
    pub(super) fn is_this_if(&self, may_be: impl FnOnce() -> bool) -> bool {
        let this = process_number();
        // Relaxed: no other memory goes with the number.
        match self.0.compare_exchange(NOT_ASKED, this, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) if may_be() => true,
            Ok(_) => {
                self.0.store(NONE, Ordering::Relaxed);
                false
            }
            Err(first) => first == this,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_that_asks_is_the_one() {
        let process = Process::new();
        assert!(process.is_this());
        assert!(process.is_this_if(|| unreachable!("only the first is asked")));
        let parent = Process(AtomicU32::new(process_number() + 1));
        assert!(!parent.is_this());
    }

    #[test]
    fn a_process_that_may_not_be_it_never_is() {
        let process = Process::new();
        assert!(!process.is_this_if(|| false));
        assert!(!process.is_this());
    }
}
