//! Copies from and to libtorch that several threads share: no other job runs inside them.

use std::cell::Cell;

use dlbridge::{ArrayExt, ArrayTorchExt, Tensor, TorchExt};
use ndarray::{Array2, Ix1, Ix2};
use rayon::prelude::*;

use crate::hostile_jobs::watched;
use crate::hostile_jobs::{Call, SHAPE, are_elements, are_transposed, attack, attacked, elements};

fn matrix() -> Array2<f32> {
    Array2::from_shape_vec(SHAPE, elements()).expect("as many elements")
}

fn torch() -> tch::Tensor {
    matrix().into_torch().expect("plain memory")
}

fn numbers(tensor: &tch::Tensor) -> Vec<f32> {
    tensor.flatten(0, -1).try_into().expect("f32")
}

const CALLS: &[Call] = &[
    ("Tensor::to_torch", || {
        let tensor: Tensor = matrix().reversed_axes().into_tensor();
        assert!(are_transposed(&numbers(&attacked(|| tensor.to_torch()).expect("memory"))));
    }),
    ("Array::to_torch", || {
        let matrix = matrix();
        assert!(are_elements(&numbers(&attacked(|| matrix.to_torch()).expect("memory"))));
    }),
    ("TorchExt::to_tensor", || {
        let tensor = torch();
        let copy = attacked(|| tensor.to_tensor()).expect("memory");
        assert!(are_elements(copy.as_slice().expect("row-major")));
    }),
    ("TorchExt::to_ndarray", || {
        let tensor = torch().transpose(0, 1);
        let copy = attacked(|| tensor.to_ndarray::<f32, Ix2>()).expect("memory");
        assert!(are_transposed(copy.as_slice().expect("row-major")));
    }),
    ("lend_torch with a clone that escapes", || {
        let mut matrix = matrix();
        let escaped = attacked(|| matrix.lend_torch(|tensor| tensor.shallow_clone()));
        drop(escaped.expect("plain memory"));
        assert!(are_elements(matrix.as_slice().expect("row-major")));
    }),
];

#[test]
fn no_other_job_runs_in_the_middle_of_a_copy() {
    attack(CALLS);
}

/// A tensor for each thread, which every job of that thread overwrites and then copies. With a copy
/// that runs other jobs while it waits, a result has elements of another job.
#[test]
fn a_scratch_tensor_of_a_thread_is_not_overwritten_by_another_job() {
    thread_local! {
        static SCRATCH: tch::Tensor = tch::Tensor::zeros([1 << 20], tch::kind::FLOAT_CPU);
        static COPYING: Cell<bool> = const { Cell::new(false) };
    }
    let copies_own_elements = |job: i32| {
        SCRATCH.with(|scratch| {
            let nested = COPYING.replace(true);
            let _ = scratch.shallow_clone().fill_(i64::from(job));
            let copy = scratch.to_ndarray::<f32, Ix1>().expect("memory");
            COPYING.set(false);
            !nested && copy.iter().all(|&element| element == job as f32)
        })
    };
    watched(|| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().expect("a pool");
        for round in 0..20_i32 {
            let jobs = (12 * round..12 * (round + 1)).into_par_iter().with_max_len(1);
            let right = pool.install(|| jobs.filter(|&job| copies_own_elements(job)).count());
            assert_eq!(right, 12, "of 12 jobs in round {round}");
        }
    });
}
