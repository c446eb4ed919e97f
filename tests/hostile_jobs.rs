//! Copies while jobs that must not run inside them wait in the pool: from inside and outside of
//! pools, under a lock that the jobs want, and in the child of a fork.
#![cfg(target_os = "linux")]

#[path = "support/child.rs"]
mod child;
#[path = "support/hostile_jobs.rs"]
mod hostile_jobs;

use child::in_child;
use dlbridge::{ArrayExt, Device, MemoryFormat, NdArray, Tensor};
use hostile_jobs::{
    Call, SHAPE, are_elements, are_transposed, attack, attacked, elements, watched,
};
use ndarray::{Array2, Ix2};

fn matrix() -> Array2<f32> {
    Array2::from_shape_vec(SHAPE, elements()).expect("as many elements")
}

fn tensor() -> Tensor {
    matrix().into_tensor()
}

/// The transposed matrix.
fn transposed() -> Tensor {
    matrix().reversed_axes().into_tensor()
}

fn blank(tensor: &Tensor) -> Tensor {
    Tensor::zeros::<f32>(tensor.shape()).expect("memory")
}

fn slice(tensor: &Tensor) -> &[f32] {
    tensor.as_slice().expect("contiguous")
}

/// Every safe or unsafe method of this crate that copies elements on the host.
const CALLS: &[Call] = &[
    ("deep_clone", || {
        let tensor = tensor();
        let copy = attacked(|| tensor.deep_clone()).expect("memory");
        assert!(are_elements(slice(&copy)));
    }),
    ("deep_clone_with", || {
        let tensor = transposed();
        let copy = attacked(|| tensor.deep_clone_with(MemoryFormat::Contiguous)).expect("memory");
        assert!(are_transposed(slice(&copy)));
    }),
    ("copy_into", || {
        let tensor = transposed();
        let mut target = blank(&tensor);
        attacked(|| tensor.copy_into(&mut target)).expect("a copy");
        assert!(are_transposed(slice(&target)));
    }),
    ("copy_into_unchecked", || {
        let (tensor, target) = (tensor(), blank(&tensor()));
        // SAFETY: this function alone has the target, and no view of it.
        attacked(|| unsafe { tensor.copy_into_unchecked(&target) }).expect("a copy");
        assert!(are_elements(slice(&target)));
    }),
    ("copy_into_new_unchecked", || {
        let (tensor, target) = (tensor(), blank(&tensor()));
        // SAFETY: this function alone has the target, and no view of it.
        attacked(|| unsafe { tensor.copy_into_new_unchecked(&target) }).expect("a copy");
        assert!(are_elements(slice(&target)));
    }),
    ("from_slice", || {
        let elements = elements();
        let copy = attacked(|| Tensor::from_slice(&elements, [elements.len() as i64]));
        assert!(are_elements(slice(&copy.expect("memory"))));
    }),
    ("to_vec", || {
        let tensor = transposed();
        assert!(are_transposed(&attacked(|| tensor.to_vec::<f32>()).expect("memory")));
    }),
    ("to_device", || {
        let tensor = tensor();
        let copy = attacked(|| tensor.to_device(Device::CPU)).expect("memory");
        assert!(are_elements(slice(&copy)));
    }),
    ("Tensor::to_ndarray", || {
        let tensor = transposed();
        let copy = attacked(|| tensor.to_ndarray::<f32, Ix2>()).expect("memory");
        assert!(are_transposed(copy.as_slice().expect("row-major")));
    }),
    ("ArrayExt::to_tensor", || {
        let matrix = matrix();
        let copy = attacked(|| matrix.to_tensor()).expect("memory");
        assert!(are_elements(slice(&copy)));
    }),
    ("NdArray::to_tensor", || {
        let matrix: NdArray<f32, Ix2> = tensor().into_ndarray().expect("f32");
        let copy = attacked(|| matrix.to_tensor()).expect("memory");
        assert!(are_elements(slice(&copy)));
    }),
    ("NdArray::make_mut", || {
        let mut matrix: NdArray<f32, Ix2> = tensor().into_ndarray().expect("f32");
        let other = matrix.share();
        let copied = attacked(|| {
            matrix.make_mut().is_ok_and(|mut view| {
                view[[0, 0]] = 1.0;
                true
            })
        });
        assert!(copied && other[[0, 0]] == 0.0 && matrix[[0, 0]] == 1.0);
    }),
];

#[test]
fn no_other_job_runs_in_the_middle_of_a_copy() {
    attack(CALLS);
}

#[test]
fn a_forked_child_copies_alone_on_a_pools_thread_too() {
    // The parent uses both pools, and jobs of its own go on in them while it forks.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("a pool");
    let run_all = || CALLS.iter().for_each(|(_, run)| run());
    run_all();
    pool.install(run_all);
    // SAFETY: a copy in a child uses its own thread, and memory that it allocates.
    let in_child = || unsafe { in_child(copies_often) };
    assert_eq!(watched(in_child), 0, "outside of pools");
    assert_eq!(watched(|| pool.install(in_child)), 0, "on a thread of a pool");
    pool.install(run_all);
}

/// Whether many copies are right and leave nothing behind in a queue that no thread reads.
fn copies_often() -> bool {
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
        let pages = pages.split(' ').nth(1).expect("the second number");
        4 * pages.parse::<usize>().expect("a number")
    };
    let tensor = tensor();
    let mut target = blank(&tensor);
    tensor.copy_into(&mut target).expect("a copy");
    let before = resident();
    for _ in 0..2000 {
        tensor.copy_into(&mut target).expect("a copy");
    }
    are_elements(slice(&target)) && resident() < before + 200
}
