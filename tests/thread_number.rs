//! The variable `RAYON_NUM_THREADS`. In a file of its own, with one test: it counts the threads of
//! a process, whose variable is read once.
#![cfg(target_os = "linux")]

use std::process::Command;

use dlbridge::Tensor;

/// Set in a process that copies, to the number of threads that it may have in the end.
const COPIES: &str = "DLBRIDGE_TEST_THREADS";

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("Linux has it").count()
}

/// Copies 8 MiB in a loop, and checks how many threads were started for it.
fn copies(expected: usize) {
    let before = threads();
    let tensor = Tensor::zeros::<u8>(&[8 << 20]).expect("memory");
    for _ in 0..100 {
        drop(tensor.deep_clone().expect("memory"));
    }
    assert_eq!(threads() - before + 1, expected);
}

#[test]
fn the_variable_sets_the_number_of_threads() {
    if let Ok(expected) = std::env::var(COPIES) {
        return copies(expected.parse().expect("a number"));
    }
    let available = std::thread::available_parallelism().expect("Linux tells").get();
    for (variable, expected) in [("1", 1), ("2", 2), ("0", available), ("many", available)] {
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.env("RAYON_NUM_THREADS", variable).env(COPIES, expected.to_string());
        assert!(child.status().expect("it starts").success(), "{variable}");
    }
}
