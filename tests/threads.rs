//! Which copies use other threads, and whose. In a file of its own, because it counts the threads
//! of the process, and in one test, because tests are threads too.
#![cfg(target_os = "linux")]

#[path = "support/child.rs"]
mod child;

use child::in_child;
use dlbridge::{MemoryFormat, Tensor};
use ndarray::Array2;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("Linux has it").count()
}

/// A transposed square of `i32`, which counts from 0, and whether a copy of it is right.
fn copies_well(side: i32) -> bool {
    let array = Array2::from_shape_fn((side as usize, side as usize), |(row, column)| {
        row as i32 * side + column as i32
    });
    let tensor = Tensor::from(array.reversed_axes());
    let copy = tensor.deep_clone_with(MemoryFormat::Contiguous).expect("memory");
    let copy = copy.as_slice::<i32>().expect("contiguous");
    copy.iter().enumerate().all(|(index, &value)| {
        let (row, column) = (index as i32 / side, index as i32 % side);
        value == column * side + row
    })
}

/// Copies 640 kB in a loop, for which workers stay awake. Returns whether the
/// copies are right.
fn loops_well() -> bool {
    let side = 400_i32;
    let tensor =
        Tensor::from_vec((0..side * side).collect(), [i64::from(side); 2]).expect("a size");
    let transposed = tensor.deep_clone().expect("memory");
    let transposed = transposed.permute([1, 0]).expect("two dimensions");
    let mut back = Tensor::zeros::<i32>(&[i64::from(side); 2]).expect("memory");
    (0..20).all(|_| {
        let copy = transposed.deep_clone_with(MemoryFormat::Contiguous).expect("memory");
        let copy = copy.permute([1, 0]).expect("two dimensions");
        copy.copy_into(&mut back).expect("a copy");
        back.as_slice::<i32>().expect("contiguous") == tensor.as_slice::<i32>().expect("contiguous")
    })
}

#[test]
fn small_copies_use_one_thread_and_large_ones_the_callers_pool() {
    let before = threads();
    assert!(copies_well(300));
    assert_eq!(threads(), before, "360 kB: no thread was woken");

    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("a pool");
    assert!(pool.install(|| copies_well(1500)));
    assert_eq!(threads(), before + 3, "the caller's own pool, and no other");
    drop(pool);

    assert!(copies_well(1500));
    let processors = std::thread::available_parallelism().expect("Linux tells").get();
    let started = threads() - before;
    assert!(started < processors && (started > 0 || processors == 1), "workers, and no pool");
    assert_eq!(
        // SAFETY: the child's copies use its own thread, and memory that it allocates.
        unsafe { in_child(|| copies_well(1500)) },
        0,
        "the child of a fork does not wait for threads it lacks"
    );

    assert!(loops_well());
    for _ in 0..5 {
        assert!(loops_well());
        assert_eq!(
            // SAFETY: the child's copies use its own thread, and memory that it allocates.
            unsafe { in_child(loops_well) },
            0,
            "workers of the parent that were on standby are not in the child"
        );
    }
}
