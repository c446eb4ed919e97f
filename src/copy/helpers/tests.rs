//! What callers and helpers do when helpers begin late, never, or not in this process, and when a
//! part or an offer panics.

#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::{Caller, End, Helper, share_out};
use crate::sync::{Arc, Mutex};

fn on_a_thread(helper: Helper) {
    thread::spawn(|| helper.run());
}

/// Runs `parts` parts, and returns how often each of them ran.
fn counts(parts: usize, helpers: usize, offer: fn(Helper)) -> Vec<usize> {
    let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
    share_out(parts, helpers, offer, &|number| {
        counts[number].fetch_add(1, Ordering::Relaxed);
    });
    counts.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn each_part_runs_once() {
    for parts in [1, 2, 3, 64, 1000] {
        for helpers in [0, 1, 2, 7] {
            assert_eq!(counts(parts, helpers, on_a_thread), vec![1; parts], "{helpers} helpers");
        }
    }
}

#[test]
fn helpers_that_never_begin_are_not_waited_for() {
    static NEVER_RUN: Mutex<Vec<Helper>> = Mutex::new(Vec::new());
    let keep = |helper| NEVER_RUN.lock().expect("no panic").push(helper);
    assert_eq!(counts(10, 3, drop), [1; 10]);
    assert_eq!(counts(10, 3, keep), [1; 10]);
}

#[test]
fn a_helper_that_begins_late_runs_nothing() {
    static LATE: Mutex<Vec<Helper>> = Mutex::new(Vec::new());
    let ran = AtomicUsize::new(0);
    let queue = |helper| LATE.lock().expect("no panic").push(helper);
    share_out(4, 3, queue, &|_| {
        ran.fetch_add(1, Ordering::Relaxed);
    });
    let late = std::mem::take(&mut *LATE.lock().expect("no panic"));
    assert_eq!(
        late.len(),
        2,
        "one that is offered twice: only a helper that has begun offers more"
    );
    late.into_iter().for_each(Helper::run);
    assert_eq!(ran.into_inner(), 4);
}

#[test]
fn a_helper_that_is_offered_twice_begins_once() {
    let (has_begun, is_over) = (Barrier::new(2), AtomicBool::new(false));
    let caller_ran = AtomicUsize::new(0);
    let this = thread::current().id();
    let work = |number| {
        if thread::current().id() == this {
            caller_ran.fetch_add(1, Ordering::Relaxed);
        } else if number == 2 {
            has_begun.wait();
            while !is_over.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        }
    };
    let caller = Caller::new(3, 1, drop, &work);
    let helper = || Helper { shared: Arc::clone(&caller.shared) };
    on_a_thread(helper());
    has_begun.wait();
    helper().run();
    assert_eq!(caller_ran.load(Ordering::Relaxed), 0, "parts 0 and 1 are left");
    caller.shared.run_parts(End::First);
    is_over.store(true, Ordering::Relaxed);
    caller.finish();
    assert_eq!(caller_ran.into_inner(), 2);
}

#[test]
fn the_caller_waits_for_a_part_that_a_helper_has_begun() {
    let (both, is_over) = (Barrier::new(2), AtomicBool::new(false));
    let caller = thread::current().id();
    share_out(2, 1, on_a_thread, &|_| {
        both.wait();
        if thread::current().id() != caller {
            // Longer than the caller spins, so that it blocks.
            thread::sleep(Duration::from_millis(100));
            is_over.store(true, Ordering::Relaxed);
        }
    });
    assert!(is_over.into_inner());
}

/// Runs two parts on two threads, one of which panics; returns the message that comes out, and
/// whether the other part was over by then.
fn panic_on(caller_panics: bool) -> (String, bool) {
    let (both, is_over) = (Barrier::new(2), AtomicBool::new(false));
    let caller = thread::current().id();
    let result = catch_unwind(AssertUnwindSafe(|| {
        share_out(2, 1, on_a_thread, &|_| {
            both.wait();
            assert!((thread::current().id() == caller) != caller_panics, "a bad part");
            thread::sleep(Duration::from_millis(100));
            is_over.store(true, Ordering::Relaxed);
        });
    }));
    let payload = result.expect_err("a part panicked");
    let message = payload.downcast_ref::<&str>().expect("a message");
    ((*message).to_owned(), is_over.into_inner())
}

#[test]
fn a_panic_of_a_part_comes_out_when_all_others_are_over() {
    for caller_panics in [false, true] {
        assert_eq!(panic_on(caller_panics), ("a bad part".to_owned(), true), "{caller_panics}");
    }
}

#[test]
fn an_offer_that_panics_leaves_no_part_to_its_helper() {
    static OFFERED: Mutex<Vec<Helper>> = Mutex::new(Vec::new());
    let ran = AtomicUsize::new(0);
    let offer = |helper| {
        OFFERED.lock().expect("no panic yet").push(helper);
        panic!("no queue");
    };
    let work = |_| {
        ran.fetch_add(1, Ordering::Relaxed);
    };
    catch_unwind(AssertUnwindSafe(|| share_out(4, 1, offer, &work))).expect_err("the offer's");
    std::mem::take(&mut *OFFERED.lock().expect("not held")).into_iter().for_each(Helper::run);
    assert_eq!(ran.into_inner(), 0);
}

#[test]
fn a_helper_in_another_process_than_its_caller_runs_nothing() {
    let ran = AtomicUsize::new(0);
    let work = |_| {
        ran.fetch_add(1, Ordering::Relaxed);
    };
    let mut caller = Caller::new(2, 1, drop, &work);
    Arc::get_mut(&mut caller.shared).expect("no helper yet").process = 0;
    Helper { shared: Arc::clone(&caller.shared) }.run();
    assert_eq!(ran.load(Ordering::Relaxed), 0);
    caller.shared.run_parts(End::First);
    caller.finish();
    assert_eq!(ran.load(Ordering::Relaxed), 2);
}
