//! The child of a fork whose parent has used rayon, but has copied nothing. In a file of its own,
//! because no other test may copy in the parent before.
#![cfg(target_os = "linux")]

use dlbridge::Tensor;

/// Whether a large copy in a process without the pool's other threads is right, and left nothing
/// for them to do.
fn copies_alone() -> bool {
    let tensor = Tensor::from_vec((0..1_u32 << 19).collect(), [1 << 19]).expect("as many elements");
    let copy = tensor.deep_clone().expect("memory");
    let copy = copy.as_slice::<u32>().expect("contiguous");
    let is_right = copy.iter().zip(0..).all(|(&value, index)| value == index);
    is_right && rayon::yield_local() == Some(rayon::Yield::Idle)
}

#[test]
fn a_child_does_not_use_the_pool_that_its_parent_started() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("a pool");
    let status = pool.install(|| {
        // SAFETY: the other threads of the pool hold no lock while they sleep; those of the test
        // harness wait for this test.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the child, and only the child, if it hangs.
            unsafe { libc::alarm(30) };
            let status = i32::from(!copies_alone());
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(status) };
        }
        let mut status = -1;
        // SAFETY: the child from above.
        unsafe { libc::waitpid(child, &mut status, 0) };
        status
    });
    assert_eq!(status, 0);
}
