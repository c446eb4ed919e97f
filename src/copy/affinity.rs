//! Keeps a worker off the processor of the thread that it helps.
//!
//! Linux may wake a worker on the processor of the thread that wakes it, although another one is
//! idle: it does so in virtual machines. There the worker interrupts the copy that it should help
//! with, or begins 1 to 4 milliseconds later. On such a machine of two processors, workers that
//! avoid the caller's processor begin after 60 to 120 microseconds.
//!
//! Only the affinity of workers changes, and only until they run: a worker at work may use all of
//! its processors. So threads that it starts may use all of them, too, the system may move it when
//! its processor is busy, and it stays within what a user allows all threads of the process while
//! the worker sleeps. (A restricted affinity could not be told from one that a user sets.)

#[cfg(target_os = "linux")]
pub(super) use linux::{Affinity, processor};
#[cfg(not(target_os = "linux"))]
pub(super) use other::{Affinity, processor};

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// Moves a thread from one processor to another.
    pub(in crate::copy) struct Affinity {
        thread: ThreadId,
        moved: Mutex<Option<Move>>,
    }

    /// A thread was moved, and may use fewer processors until it settles.
    struct Move {
        all: Processors,
        others: Processors,
    }

    impl Affinity {
        /// Of this thread, which must not end before the value is dropped: another thread may get
        /// its number then. `None` if the system does not tell.
        pub(in crate::copy) fn of_this_thread() -> Option<Self> {
            let thread = this_thread();
            Processors::of(thread)?;
            Some(Self { thread, moved: Mutex::new(None) })
        }

        /// Moves the thread away from a processor, if it may use another one. It does not use the
        /// processor before it calls [`settle`](Self::settle).
        pub(in crate::copy) fn avoid(&self, processor: usize) {
            let mut moved = self.lock();
            let Some(current) = Processors::of(self.thread) else { return };
            if !current.has(processor) {
                return;
            }
            let all = match &*moved {
                Some(moved) if moved.others == current => moved.all,
                _ => current,
            };
            let Some(others) = all.without(processor) else { return };
            if others.set_for(self.thread) {
                *moved = Some(Move { all, others });
            }
        }

        /// Lets the thread use all of its processors again. The thread itself calls this when it
        /// runs: it stays where it is as long as the system has no reason to move it.
        pub(in crate::copy) fn settle(&self) {
            let Some(Move { all, others }) = self.lock().take() else { return };
            if Processors::of(self.thread) != Some(others) {
                return; // changed from outside, for example with taskset
            }
            let _ = all.set_for(self.thread);
        }

        fn lock(&self) -> MutexGuard<'_, Option<Move>> {
            self.moved.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// The number of a thread among all threads of the system.
    type ThreadId = libc::pid_t;

    fn this_thread() -> ThreadId {
        // SAFETY: has no preconditions. (Older glibcs have no function `gettid`.)
        unsafe { libc::syscall(libc::SYS_gettid) as ThreadId }
    }

    /// The processor that this thread runs on. `None` if the system does not tell.
    pub(in crate::copy) fn processor() -> Option<usize> {
        // SAFETY: has no preconditions.
        usize::try_from(unsafe { libc::sched_getcpu() }).ok()
    }

    /// A set of processors.
    #[derive(Clone, Copy)]
    struct Processors(libc::cpu_set_t);

    impl Processors {
        const SIZE: usize = size_of::<libc::cpu_set_t>();
        const MAX: usize = libc::CPU_SETSIZE as usize;

        /// Those that a thread may use. `None` if the system does not tell.
        fn of(thread: ThreadId) -> Option<Self> {
            // SAFETY: an array of integers, which may be 0.
            let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
            // SAFETY: writes to `set`, which has this size.
            let status = unsafe { libc::sched_getaffinity(thread, Self::SIZE, &mut set) };
            (status == 0).then_some(Self(set))
        }

        /// Lets a thread use these only. Returns whether the system accepts it.
        fn set_for(self, thread: ThreadId) -> bool {
            // SAFETY: reads the set, which has this size.
            unsafe { libc::sched_setaffinity(thread, Self::SIZE, &self.0) == 0 }
        }

        fn has(&self, processor: usize) -> bool {
            // SAFETY: the number is one of the set's.
            processor < Self::MAX && unsafe { libc::CPU_ISSET(processor, &self.0) }
        }

        /// The others, if there are any.
        fn without(mut self, processor: usize) -> Option<Self> {
            if processor < Self::MAX {
                // SAFETY: the number is one of the set's.
                unsafe { libc::CPU_CLR(processor, &mut self.0) };
            }
            // SAFETY: only reads the set.
            (unsafe { libc::CPU_COUNT(&self.0) } > 0).then_some(self)
        }
    }

    impl PartialEq for Processors {
        fn eq(&self, other: &Self) -> bool {
            // SAFETY: only reads the sets.
            unsafe { libc::CPU_EQUAL(&self.0, &other.0) }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn of_this_thread() -> Processors {
            Processors::of(this_thread()).expect("Linux tells")
        }

        /// The processors of this thread, if there are at least two.
        fn two_or_more() -> Option<Processors> {
            let processors = of_this_thread();
            // SAFETY: only reads the set.
            (unsafe { libc::CPU_COUNT(&processors.0) } > 1).then_some(processors)
        }

        fn in_a_thread(test: impl FnOnce() + Send + 'static) {
            std::thread::spawn(test).join().expect("no panic");
        }

        #[test]
        fn a_thread_leaves_the_processor_that_it_avoids() {
            in_a_thread(|| {
                let Some(all) = two_or_more() else { return };
                let affinity = Affinity::of_this_thread().expect("Linux tells");
                for _ in 0..4 {
                    let processor = processor().expect("Linux tells");
                    affinity.avoid(processor);
                    assert_ne!(super::processor(), Some(processor));
                    assert!(
                        Some(of_this_thread()) == all.without(processor),
                        "it keeps the others"
                    );
                }
                affinity.settle();
                assert!(of_this_thread() == all, "it may use all again");
            });
        }

        #[test]
        fn a_thread_keeps_the_processors_that_a_user_gives_it() {
            in_a_thread(|| {
                let Some(all) = two_or_more() else { return };
                let affinity = Affinity::of_this_thread().expect("Linux tells");
                let first = processor().expect("Linux tells");
                let others = all.without(first).expect("two or more");
                affinity.avoid(first);
                affinity.settle();
                assert!(others.set_for(this_thread()));
                affinity.avoid(processor().expect("Linux tells"));
                assert!(!of_this_thread().has(first), "what `avoid` had chosen before");
                affinity.settle();
                assert!(of_this_thread() == others);
            });
        }

        #[test]
        fn a_thread_with_one_processor_stays_there() {
            in_a_thread(|| {
                let Some(all) = two_or_more() else { return };
                let first = (0..Processors::MAX).find(|&number| all.has(number)).expect("two");
                let affinity = Affinity::of_this_thread().expect("Linux tells");
                let others = (0..Processors::MAX).filter(|&number| number != first);
                let one = others.fold(all, |set, number| set.without(number).expect("the first"));
                assert!(one.set_for(this_thread()));
                affinity.avoid(first);
                assert!(of_this_thread() == one, "it has no other one");
            });
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    /// Nothing is known about processors.
    pub(in crate::copy) enum Affinity {}

    impl Affinity {
        pub(in crate::copy) fn of_this_thread() -> Option<Self> {
            None
        }

        pub(in crate::copy) fn avoid(&self, _: usize) {
            match *self {}
        }

        pub(in crate::copy) fn settle(&self) {
            match *self {}
        }
    }

    pub(in crate::copy) fn processor() -> Option<usize> {
        None
    }
}
