//! How often this process, and those that it is a child of, have forked.
//!
//! After a fork, parent and child share all pages until one of the two writes a page. That write
//! copies the page, which takes longer than getting a new one, and leaves small pages in place of a
//! huge one. So memory from before the last fork is not worth keeping.

use std::sync::atomic::{AtomicU32, Ordering};

/// Relaxed: other memory does not depend on the number. It wraps around after 2^32 forks.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Returns the number of forks since the first call of [`start_counting`].
#[inline]
pub(super) fn count() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Starts to count forks, if that was not done before.
#[cfg(all(target_os = "linux", not(miri)))]
pub(super) fn start_counting() {
    use std::sync::atomic::AtomicBool;
    static IS_COUNTING: AtomicBool = AtomicBool::new(false);

    extern "C" fn add_one() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    if !IS_COUNTING.load(Ordering::Relaxed) && !IS_COUNTING.swap(true, Ordering::Relaxed) {
        // SAFETY: `add_one` is a function of this library, and may run in a child of a process with
        // several threads: it uses an atomic variable only. When the library is unloaded, glibc
        // removes it from its list; musl unloads no library. If the call fails, memory from before
        // a fork is used again, which is slower and otherwise the same.
        unsafe { libc::pthread_atfork(None, Some(add_one), Some(add_one)) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
pub(super) fn start_counting() {}
