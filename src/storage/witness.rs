//! Values whose accesses loom checks.
//!
//! Rust checks that a value is written through the only reference to it. That the reference is the
//! only one rests, for a storage, on a count, and that the writes of another thread are seen on the
//! memory orders of that count. In the unit tests of a build with `--cfg loom`, a [`Witness`] tells
//! loom of each access, and loom fails the test if two of them race. Otherwise it is nothing. After
//! such a failure, while the test unwinds, nothing is told any more.

/// Stands for a piece of memory in tests with loom.
#[derive(Default)]
pub(super) struct Witness {
    #[cfg(all(loom, test))]
    accesses: loom::cell::UnsafeCell<()>,
}

// SAFETY: the cell holds nothing, and loom's own record of it is used by one thread at a time.
#[cfg(all(loom, test))]
unsafe impl Sync for Witness {}

impl Witness {
    /// Notes that the memory is read here.
    #[inline]
    pub(super) fn read(&self) {
        #[cfg(all(loom, test))]
        if !std::thread::panicking() {
            self.accesses.with(|_| ());
        }
    }

    /// Notes that the memory is written here.
    #[inline]
    pub(super) fn write(&self) {
        #[cfg(all(loom, test))]
        if !std::thread::panicking() {
            self.accesses.with_mut(|_| ());
        }
    }
}

/// A value, and the witness of its accesses.
pub(super) struct Witnessed<T> {
    value: T,
    witness: Witness,
}

impl<T: Copy> Witnessed<T> {
    #[inline]
    pub(super) fn new(value: T) -> Self {
        Self { value, witness: Witness::default() }
    }

    #[inline]
    pub(super) fn get(&self) -> T {
        self.witness.read();
        self.value
    }

    #[inline]
    pub(super) fn get_mut(&mut self) -> &mut T {
        self.witness.write();
        &mut self.value
    }
}
