//! A number for each process, by which the child of a fork knows that it is not its parent.
//!
//! `getpid` would do, but it is a system call: 100 ns on an AMD EPYC (Zen 5), where 256 KiB are
//! copied in 2 microseconds. On Linux, the number is instead on a page that the system clears in
//! the child, however the child was made, and the child gives itself a new one when it first asks.
//! A child that shares the memory of its parent (`vfork`) has its parent's number; such a child may
//! do nothing but run another program.

#[cfg(all(target_os = "linux", not(miri)))]
pub(super) use linux::process_number;

/// A number that this process has, but no process that it is a fork of and that has asked, too.
#[cfg(not(all(target_os = "linux", not(miri))))]
pub(super) fn process_number() -> u32 {
    std::process::id()
}

#[cfg(all(target_os = "linux", not(miri)))]
mod linux {
    use std::ptr::{self, NonNull};
    use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

    /// The smallest page of any system. A mapping takes up whole pages.
    const PAGE_BYTES: usize = 4096;

    /// No system knows this advice.
    const INVALID_ADVICE: libc::c_int = -1;

    /// The page of the number; NULL before the first call, and [`NO_PAGE`] if the system has none.
    static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

    /// Marks [`PAGE`].
    static NO_PAGE: AtomicU32 = AtomicU32::new(0);

    /// The last number that was given. A child goes on from the last one of its parent.
    static LAST: AtomicU32 = AtomicU32::new(0);

    /// A number that this process has, but no process that it is a fork of and that has asked, too.
    #[inline]
    pub(in crate::copy) fn process_number() -> u32 {
        match page() {
            Some(page) => number_on(page),
            None => std::process::id(),
        }
    }

    #[inline]
    fn number_on(page: &AtomicU32) -> u32 {
        // Relaxed here and below: no other memory goes with the number.
        match page.load(Relaxed) {
            0 => first_number_on(page),
            number => number,
        }
    }

    #[cold]
    fn first_number_on(page: &AtomicU32) -> u32 {
        let next = LAST.fetch_add(1, Relaxed) + 1;
        // Another thread may be as early.
        page.compare_exchange(0, next, Relaxed, Relaxed).map_or_else(|number| number, |_| next)
    }

    /// A number that is 0 in a process that has not given itself one. `None` if the system has no
    /// such pages.
    #[inline]
    fn page() -> Option<&'static AtomicU32> {
        let page = match PAGE.load(Relaxed) {
            page if page.is_null() => make_page(),
            page => page,
        };
        if ptr::eq(page, &NO_PAGE) {
            return None;
        }
        // SAFETY: `make_page` mapped the page, which is at least as large as the number, aligned,
        // and zeroed at first, and nothing unmaps it. A child has it, too.
        Some(unsafe { &*page })
    }

    /// Maps the page, unless another thread is faster.
    #[cold]
    fn make_page() -> *mut AtomicU32 {
        let made = map_cleared_page().map_or(ptr::from_ref(&NO_PAGE).cast_mut(), NonNull::as_ptr);
        match PAGE.compare_exchange(ptr::null_mut(), made, Relaxed, Relaxed) {
            Ok(_) => made,
            Err(first) => {
                if !ptr::eq(made, &NO_PAGE) {
                    // SAFETY: the page was mapped just above, and nothing else has its address.
                    unsafe { libc::munmap(made.cast(), PAGE_BYTES) };
                }
                first
            }
        }
    }

    /// Maps a page that the system clears in the child of a fork.
    fn map_cleared_page() -> Option<NonNull<AtomicU32>> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address that the system chooses.
        let page = unsafe { libc::mmap(ptr::null_mut(), PAGE_BYTES, access, kind, -1, 0) };
        if page == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the page was just mapped, and holds nothing.
        let advise = |advice| unsafe { libc::madvise(page, PAGE_BYTES, advice) } == 0;
        // Emulators may accept every advice and do nothing.
        if advise(INVALID_ADVICE) || !advise(libc::MADV_WIPEONFORK) {
            // SAFETY: the page was mapped just above, and nothing else has its address.
            unsafe { libc::munmap(page, PAGE_BYTES) };
            return None;
        }
        NonNull::new(page.cast())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// Makes a child, as `fork` does, and returns 0 in it: by glibc's function or directly.
        ///
        /// # Safety
        /// * The child only uses atomic variables and makes system calls.
        unsafe fn fork(directly: bool) -> libc::pid_t {
            if directly {
                // SAFETY: the caller guarantees that the child only does what a child may.
                return unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as _;
            }
            // SAFETY: the caller guarantees that the child only does what a child may.
            unsafe { libc::fork() }
        }

        /// Runs `test` in a child; returns whether it was true.
        fn in_child(directly: bool, test: impl FnOnce() -> bool) -> bool {
            // SAFETY: the tests below use atomic variables and system calls only.
            let child = unsafe { fork(directly) };
            if child == 0 {
                // SAFETY: ends the child without running what belongs to the parent.
                unsafe { libc::_exit(i32::from(!test())) };
            }
            let mut status = -1;
            // SAFETY: the child from above.
            unsafe { libc::waitpid(child, &mut status, 0) };
            status == 0
        }

        #[test]
        fn a_process_keeps_its_number_and_its_children_have_others() {
            let number = process_number();
            for directly in [false, true] {
                assert!(in_child(directly, || {
                    let child = process_number();
                    child != number && child == process_number() && {
                        in_child(directly, || {
                            let grandchild = process_number();
                            grandchild != child && grandchild != number
                        })
                    }
                }));
            }
            assert_eq!(process_number(), number);
        }

        #[test]
        fn linux_has_the_page() {
            // Since version 4.14. `getpid` is for older ones and for emulators.
            let is_emulated = !cfg!(target_arch = "x86_64");
            assert!(page().is_some() || is_emulated);
        }
    }
}
