//! Workers in all orders that the steps of their threads can have: `cargo xtask loom`.

#![forbid(unsafe_code)]

use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;

use super::{Offered, Worker, Workers};

/// Explores workers, of which each waits for as many offers as its number in `waits` says, and
/// polls `polls` times before it sleeps. This thread offers, and one more if `two_offer`. Loom
/// reports a worker that sleeps although its offer was taken, because then no thread can go on.
fn explore(waits: &'static [usize], polls: usize, two_offer: bool) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let workers = Arc::new(Workers::new(0));
        let work = |&count: &usize| {
            let workers = Arc::clone(&workers);
            thread::spawn(move || {
                let worker = Worker::new(None);
                for _ in 0..count {
                    let mut left = 0..polls;
                    workers.next(&worker, || left.next().is_none());
                }
            })
        };
        let threads: Vec<_> = waits.iter().map(work).collect();
        let mut left = waits.iter().sum::<usize>();
        if two_offer {
            let other = {
                let workers = Arc::clone(&workers);
                thread::spawn(move || is_taken(&workers))
            };
            left -= usize::from(is_taken(&workers));
            left -= usize::from(other.join().expect("no panic"));
        }
        while left > 0 {
            if is_taken(&workers) {
                left -= 1;
            } else {
                thread::yield_now();
            }
        }
        for thread in threads {
            thread.join().expect("no panic");
        }
    });
}

fn is_taken(workers: &Workers<()>) -> bool {
    workers.offer_to_standby(()) == Offered::Taken || workers.offer(()) == Offered::Taken
}

#[test]
fn loom_a_worker_that_sleeps_at_once_gets_two_offers() {
    explore(&[2], 0, false);
}

#[test]
fn loom_a_worker_that_polls_gets_two_offers() {
    explore(&[2], 1, false);
}

#[test]
fn loom_a_worker_gets_the_offers_of_two_threads() {
    explore(&[2], 0, true);
}

#[test]
fn loom_two_workers_get_an_offer_each() {
    explore(&[1, 1], 0, false);
}
