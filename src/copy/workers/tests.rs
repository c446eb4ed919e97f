#![forbid(unsafe_code)]

use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// Offers `offer` until a worker on standby takes it.
fn offer_until_taken(workers: &Workers<usize>, offer: usize) {
    while workers.offer_to_standby(offer) != Offered::Taken {
        thread::yield_now();
    }
}

/// Waits until `count` workers sleep and no offer is left.
fn wait_for_sleepers(workers: &Workers<usize>, count: usize) {
    let are_asleep = || {
        let state = workers.lock();
        state.asleep.len() == count && state.offers.is_empty()
    };
    while !are_asleep() {
        thread::yield_now();
    }
}

#[test]
fn no_more_workers_start_than_the_maximum() {
    let workers = Workers::new(2);
    assert_eq!(workers.offer_to_standby(7), Offered::Refused(7), "no worker waits");
    assert_eq!(workers.offer(7), Offered::Start(7));
    assert_eq!(workers.offer(8), Offered::Start(8));
    assert_eq!(workers.offer(9), Offered::Refused(9), "both work");
    workers.did_not_start();
    assert_eq!(workers.offer(9), Offered::Start(9), "the system started no thread before");
    assert_eq!(Workers::new(0).offer(7), Offered::Refused(7));
}

#[test]
fn a_worker_on_standby_gets_one_offer() {
    let workers = Workers::new(0);
    thread::scope(|scope| {
        let worker = scope.spawn(|| workers.next(&Worker::new(None), || false));
        offer_until_taken(&workers, 7);
        assert_eq!(workers.offer_to_standby(8), Offered::Refused(8));
        assert_eq!(worker.join().expect("no panic"), 7);
    });
}

#[test]
fn a_worker_on_standby_sees_an_offer_to_any_worker() {
    let workers = Workers::new(0);
    thread::scope(|scope| {
        let worker = scope.spawn(|| workers.next(&Worker::new(None), || false));
        while workers.offer(7) != Offered::Taken {
            thread::yield_now();
        }
        assert!(!workers.has_standby(), "it has an offer");
        assert_eq!(worker.join().expect("no panic"), 7);
    });
}

#[test]
fn a_worker_that_the_system_wakes_sleeps_again() {
    let workers = Workers::new(0);
    let this = &Worker::new(None);
    thread::scope(|scope| {
        let worker = scope.spawn(|| workers.next(this, || true));
        for _ in 0..20 {
            wait_for_sleepers(&workers, 1);
            this.woken.notify_one(); // as the system may do at any time
            thread::sleep(Duration::from_millis(1));
        }
        while workers.offer(7) != Offered::Taken {
            thread::yield_now();
        }
        assert_eq!(worker.join().expect("no panic"), 7);
    });
    assert!(workers.lock().asleep.is_empty());
}

#[test]
fn a_worker_that_sleeps_is_woken() {
    let workers = Workers::new(0);
    thread::scope(|scope| {
        let worker = scope.spawn(|| workers.next(&Worker::new(None), || true));
        wait_for_sleepers(&workers, 1);
        assert!(!workers.has_standby());
        assert_eq!(workers.offer_to_standby(7), Offered::Refused(7));
        assert_eq!(workers.offer(7), Offered::Taken);
        assert_eq!(worker.join().expect("no panic"), 7);
    });
}

#[test]
fn a_worker_that_ends_its_standby_takes_an_offer_with_it() {
    let workers = Workers::new(0);
    let taken = workers.next(&Worker::new(None), || {
        assert_eq!(workers.offer_to_standby(7), Offered::Taken);
        true
    });
    assert_eq!(taken, 7);
    assert!(!workers.has_standby());
}

#[test]
fn each_offer_is_taken_once_where_workers_sleep_and_wake() {
    const END: usize = usize::MAX;
    let (workers, sum) = (Workers::new(3), AtomicUsize::new(0));
    let work = &|first| {
        let (worker, mut taken) = (Worker::new(None), first);
        while taken != END {
            sum.fetch_add(taken, Ordering::Relaxed);
            let mut polls = 0..20;
            taken = workers.next(&worker, || polls.next().is_none());
        }
    };
    thread::scope(|scope| {
        let offer = |number| match workers.offer(number) {
            Offered::Taken => true,
            Offered::Refused(_) => false,
            Offered::Start(first) => {
                scope.spawn(move || work(first));
                true
            }
        };
        let end = Instant::now() + Duration::from_millis(100);
        let mut offered = 0;
        for number in (1..END).take_while(|_| Instant::now() < end) {
            if number % 64 == 0 {
                thread::sleep(Duration::from_micros(200)); // lets them fall asleep
            }
            offered += if offer(number) { number } else { 0 };
        }
        let started = workers.lock().started;
        wait_for_sleepers(&workers, started);
        assert_eq!(sum.load(Ordering::Relaxed), offered);
        for _ in 0..started {
            while !offer(END) {
                thread::yield_now();
            }
        }
    });
}
