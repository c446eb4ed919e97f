//! Runs a test in the child of a fork.

/// Runs `test` in the child of a fork, for a minute at most; 0 means that it is right.
///
/// # Safety
/// * `test` waits for no thread of the parent, and for no lock that one may hold.
pub(crate) unsafe fn in_child(test: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the caller guarantees that the child uses what a child has: its own thread, and
    // memory that it allocates.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child, and only the child, if it hangs.
        unsafe { libc::alarm(60) };
        let status = i32::from(!test());
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(status) };
    }
    let mut status = -1;
    // SAFETY: the child from above.
    unsafe { libc::waitpid(child, &mut status, 0) };
    status
}
