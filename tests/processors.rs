//! Which processors workers use. In a file of its own, with one test: it changes the processors of
//! all threads of the process.
#![cfg(target_os = "linux")]

use std::mem::zeroed;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dlbridge::Tensor;
use libc::cpu_set_t;

const SIZE: usize = size_of::<cpu_set_t>();

/// The threads of this process.
fn threads() -> Vec<i32> {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux has it");
    let name = |thread: std::io::Result<std::fs::DirEntry>| thread.expect("a thread").file_name();
    threads.map(|thread| name(thread).to_str().expect("a number").parse().expect("one")).collect()
}

/// The processors that a thread may use; 0 is this thread.
fn processors(thread: i32) -> Vec<usize> {
    // SAFETY: an array of integers, which may be 0.
    let mut set: cpu_set_t = unsafe { zeroed() };
    // SAFETY: `set` has this size.
    assert_eq!(unsafe { libc::sched_getaffinity(thread, SIZE, &mut set) }, 0);
    // SAFETY: the number is one of the set's.
    (0..8 * SIZE).filter(|&number| unsafe { libc::CPU_ISSET(number, &set) }).collect()
}

fn limit(thread: i32, processors: &[usize]) {
    // SAFETY: an array of integers, which may be 0.
    let mut set: cpu_set_t = unsafe { zeroed() };
    for &number in processors {
        // SAFETY: the number is one of the set's.
        unsafe { libc::CPU_SET(number, &mut set) };
    }
    // SAFETY: `set` has this size.
    assert_eq!(unsafe { libc::sched_setaffinity(thread, SIZE, &set) }, 0);
}

/// Copies that wake workers, until `count` threads are there, and 20 more.
fn copies(count: usize) {
    let tensor = Tensor::zeros::<u8>(&[8 << 20]).expect("memory");
    let end = Instant::now() + Duration::from_secs(20);
    let mut left = 20;
    while left > 0 {
        assert!(Instant::now() < end, "workers start");
        drop(tensor.deep_clone().expect("memory"));
        sleep(Duration::from_millis(1)); // workers fall asleep
        left -= u32::from(threads().len() >= count);
    }
    sleep(Duration::from_millis(20)); // all of them
}

#[test]
fn workers_use_the_processors_that_a_user_gives_the_process() {
    let all = processors(0);
    let [first, others @ ..] = &all[..] else { return };
    if others.is_empty() {
        return;
    }
    let before = threads();
    copies(before.len() + 1);
    limit(0, &[*first]);
    copies(0);
    for thread in threads() {
        if !before.contains(&thread) {
            assert_eq!(processors(thread), all, "also those that another one started");
        }
    }
    for thread in threads() {
        limit(thread, others); // as `taskset -a` does
    }
    copies(0);
    for thread in threads() {
        assert_eq!(processors(thread), others);
    }
}
