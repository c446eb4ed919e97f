//! Memory use: how many allocations dlbridge makes, and that repeated conversions do not grow it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use dlbridge::{ArrayExt, Tensor};
use ndarray::{Array2, Ix2};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.dealloc(data, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<R>(run: impl FnOnce() -> R) -> (usize, R) {
    let before = COUNT.get();
    let result = run();
    (COUNT.get() - before, result)
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).expect("Linux tells")
}

/// Growth of resident memory, in KiB, that a million nested wrappers would exceed.
const MAX_GROWTH_KIB: usize = 30_000;

#[test]
fn array_round_trip_allocates_once() {
    let array = Array2::<f32>::zeros((8, 8));
    let (count, array) = allocations(|| {
        array
            .into_tensor()
            .into_ndarray::<f32, Ix2>()
            .expect("f32")
            .into_array()
            .expect("the original")
    });
    assert_eq!(count, 1);
    let (count, tensor) = allocations(|| array.into_tensor());
    assert_eq!(count, 1);
    let (count, shared) = allocations(|| tensor.share());
    assert_eq!(count, 0);
    let (count, exported) = allocations(|| shared.into_dlpack());
    assert_eq!(count, 1);
    drop(exported);
    let (count, _tensor) =
        allocations(|| Tensor::from_vec(vec![1.0_f32], [1]).map(|tensor| tensor.len()));
    assert_eq!(count, 2, "the Vec and the storage");
}

#[test]
fn repeated_dlpack_round_trips_do_not_grow_memory() {
    let mut tensor = Array2::<f32>::zeros((8, 8)).into_tensor();
    let before = resident_kib();
    for _ in 0..1_000_000 {
        let raw = tensor.into_dlpack().into_raw();
        // SAFETY: made just above.
        tensor = unsafe { Tensor::from_dlpack(raw) }.expect("our own");
    }
    for _ in 0..1000 {
        let raw = tensor.into_dlpack_legacy().expect("alone").into_raw();
        // SAFETY: made just above.
        tensor = unsafe { Tensor::from_dlpack_legacy(raw) }.expect("our own");
    }
    assert!(resident_kib().saturating_sub(before) < MAX_GROWTH_KIB);
    assert!(tensor.into_vec::<f32>().is_ok(), "still the original");
}

#[cfg(feature = "torch")]
mod torch {
    use super::*;
    use dlbridge::{ArrayTorchExt, TorchExt};

    #[test]
    fn moving_an_array_into_libtorch_allocates_once() {
        for size in [1, 16, 512] {
            let array = Array2::<f32>::zeros((size, size));
            let (count, tensor) = allocations(|| array.into_torch().expect("moved"));
            assert_eq!(count, 1);
            let (count, array) =
                allocations(|| tensor.into_ndarray::<f32, Ix2>().expect("moved back"));
            assert_eq!(count, 0, "unwrapped");
            let (count, _array) = allocations(|| array.into_array().expect("the original"));
            assert_eq!(count, 0);
        }
        let tensor = tch::Tensor::zeros([8, 8], tch::kind::FLOAT_CPU);
        let (count, _array) = allocations(|| tensor.into_ndarray::<f32, Ix2>().expect("moved"));
        assert_eq!(count, 1);
    }

    #[test]
    fn dlpack_exports_of_torch_tensors_are_freed() {
        let export = |count: usize| {
            for _ in 0..count {
                let tensor = tch::Tensor::zeros([1 << 18], tch::kind::FLOAT_CPU);
                drop(tensor.share_dlpack().expect("alone"));
            }
        };
        export(10);
        let before = resident_kib();
        export(1000);
        assert!(resident_kib().saturating_sub(before) < MAX_GROWTH_KIB, "1 MiB each");
    }

    #[test]
    fn repeated_libtorch_round_trips_do_not_grow_memory() {
        let array = Array2::<f32>::zeros((8, 8));
        let address = array.as_ptr();
        let mut tensor = array.into_tensor();
        let mut torch = tch::Tensor::zeros([8, 8], tch::kind::FLOAT_CPU);
        let mut round_trips = |count| {
            for _ in 0..count {
                tensor = std::mem::replace(&mut tensor, Tensor::zeros::<u8>([0]).expect("small"))
                    .into_torch()
                    .expect("moved")
                    .into_tensor()
                    .expect("unwrapped");
                torch = std::mem::replace(&mut torch, tch::Tensor::new())
                    .into_tensor()
                    .expect("moved")
                    .into_torch()
                    .expect("unwrapped");
            }
        };
        round_trips(1000);
        let before = resident_kib();
        round_trips(1_000_000);
        assert!(resident_kib().saturating_sub(before) < MAX_GROWTH_KIB);
        let array =
            tensor.into_ndarray::<f32, Ix2>().expect("f32").into_array().expect("the original");
        assert_eq!(array.as_ptr(), address);
        assert!(torch.into_ndarray::<f32, Ix2>().is_ok());
    }
}
