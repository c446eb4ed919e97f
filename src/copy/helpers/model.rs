//! The helpers in all orders that the steps of their threads can have: `cargo xtask loom`.

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::thread;

use super::{Helper, share_out};

/// One byte for each part, and one that the caller writes when it has left. Loom fails where two
/// threads reach a byte and nothing orders them.
struct Memory {
    parts: Vec<UnsafeCell<u8>>,
    left: UnsafeCell<bool>,
}

// SAFETY: loom reports each access that would be a race.
unsafe impl Sync for Memory {}

impl Memory {
    fn run(&self, number: usize) {
        // SAFETY: loom checks that no other access is in progress.
        self.left.with(|left| assert!(!unsafe { *left }, "a part ran after the caller had left"));
        // SAFETY: loom checks that no other access to this part is in progress.
        self.parts[number].with_mut(|part| unsafe { *part += 1 });
    }
}

fn explore(parts: usize, helpers: usize, offer: fn(Helper)) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let memory = Memory {
            parts: (0..parts).map(|_| UnsafeCell::new(0)).collect(),
            left: UnsafeCell::new(false),
        };
        share_out(parts, helpers, offer, &|number| memory.run(number));
        // SAFETY: loom checks that no other access is in progress.
        memory.left.with_mut(|left| unsafe { *left = true });
        for part in &memory.parts {
            // SAFETY: loom checks that no other access to the part is in progress.
            part.with(|part| assert_eq!(unsafe { *part }, 1, "each part runs once"));
        }
    });
}

/// Begins at any time, also after the caller has left.
fn on_a_thread(helper: Helper) {
    thread::spawn(|| helper.run());
}

#[test]
fn loom_one_helper_and_three_parts() {
    explore(3, 1, on_a_thread);
}

#[test]
fn loom_a_helper_that_offers_another_and_two_parts() {
    explore(2, 2, on_a_thread);
}

#[test]
fn loom_more_helpers_than_parts() {
    explore(1, 2, on_a_thread);
}

#[test]
fn loom_a_helper_that_is_never_run() {
    explore(2, 1, drop);
}
