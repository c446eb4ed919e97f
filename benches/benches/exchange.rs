//! Measures conversions without a copy: ndarray → libtorch, libtorch → ndarray, and
//! ndarray → tensor → ndarray, beside the same in C++, the other DLPack crates, and copying.
//!
//! Prints Markdown; `cargo xtask bench` puts it into the machine's page in `docs/benchmarks`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use dlbridge::{ArrayExt, ArrayTorchExt, TorchExt};
use dlbridge_benches::{Blob, Contender, race};
use dlpark::TryFromDlpack;
use dlpark::allocation::dynamic;
use dlpark::ffi::DLManagedTensorVersioned;
use ndarray::{Array2, ArrayView2, ArrayViewD, Ix2};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller meets `GlobalAlloc`'s conditions, which are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller meets `GlobalAlloc`'s conditions, which are those of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        // SAFETY: the caller meets `GlobalAlloc`'s conditions, which are those of `System`.
        unsafe { System.dealloc(data, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<R>(run: impl FnOnce() -> R) -> usize {
    let before = COUNT.get();
    drop(black_box(run()));
    COUNT.get() - before
}

/// Name and elements per side of a square `f32` matrix, and operations per round.
const SIZES: [(&str, usize, usize); 5] = [
    ("1 KiB", 16, 64),
    ("64 KiB", 128, 64),
    ("1 MiB", 512, 64),
    ("64 MiB", 4096, 16),
    ("1 GiB", 16384, 8),
];

const ROUNDS: usize = 501;

fn main() {
    into_libtorch();
    out_of_libtorch();
    through_tensor();
}

fn array(side: usize) -> Array2<f32> {
    // Zeroed pages that were never touched: large arrays cost no memory before they are written.
    Array2::zeros((side, side))
}

fn heading(title: &str, columns: &[&str]) {
    println!("\n### {title}\n");
    println!("| size | {} |", columns.join(" | "));
    println!("|---|{}", "---|".repeat(columns.len()));
}

fn row(size: &str, cells: &[String]) {
    println!("| {size} | {} |", cells.join(" | "));
}

fn ns(time: f64) -> String {
    match time {
        time if time < 10_000.0 => format!("{time:.0} ns"),
        time if time < 10_000_000.0 => format!("{:.0} µs", time / 1e3),
        time => format!("{:.0} ms", time / 1e6),
    }
}

/// The cells of a row: `times` are those of dlbridge, of two baselines, each with the ratio to it,
/// and of another way; `last` is the time of one more.
fn cells_of(times: &[f64], last: f64) -> [String; 7] {
    let ratio = |baseline: f64| format!("{:.2}", times[0] / baseline);
    let [first, second] = [times[1], times[2]];
    [ns(times[0]), ns(first), ratio(first), ns(second), ratio(second), ns(times[3]), ns(last)]
}

/// The time of a copy of `side` × `side` elements. Large copies take long and need few turns.
fn time_of_copy(copy: Contender<'_>, side: usize) -> f64 {
    let (rounds, count) = if side > 512 { (3, 1) } else { (101, 20) };
    race(&mut [copy], rounds, count)[0]
}

fn into_libtorch() {
    heading(
        "ndarray → libtorch",
        &[
            "`array.into_torch()`",
            "C++: `for_blob().context()`, heap `at::Tensor`, heap owner",
            "ratio",
            "the same without an owner",
            "ratio",
            "`into_dlpack()` + C++ `fromDLPackVersioned`",
            "`tch::Tensor::from_slice` (copies)",
        ],
    );
    for (name, side, count) in SIZES {
        let shape = [side as i64; 2];
        let strides = [side as i64, 1];
        let blob = |mut array: Array2<f32>| {
            // SAFETY: the array goes into the result, behind the tensor.
            let tensor = unsafe { Blob::new(array.as_mut_ptr(), &shape, &strides) };
            (tensor, array)
        };
        let owned = |mut array: Array2<f32>| {
            // SAFETY: the array goes into the result, behind the tensor.
            let tensor = unsafe { Blob::owned(array.as_mut_ptr(), &shape, &strides) };
            (tensor, array)
        };
        let dlpack = |array: Array2<f32>| {
            // SAFETY: a struct exported just here, which libtorch consumes.
            unsafe { Blob::from_dlpack(array.into_tensor().into_dlpack().into_raw()) }
        };
        let times = race(
            &mut [
                Contender::batched(
                    "ours",
                    || array(side),
                    |array| array.into_torch().expect("moved"),
                ),
                Contender::batched("floor", || array(side), owned),
                Contender::batched("bare", || array(side), blob),
                Contender::batched("dlpack", || array(side), dlpack),
            ],
            ROUNDS,
            count,
        );
        let source = vec![0.5_f32; side * side];
        let copy = Contender::repeated("copy", || tch::Tensor::from_slice(&source));
        let copied = time_of_copy(copy, side);
        row(name, &cells_of(&times[..], copied));
    }
    let array = array(16);
    println!(
        "\nAllocations of ours for one `into_torch`: {}.",
        allocations(|| array.into_torch().is_ok())
    );
}

fn out_of_libtorch() {
    heading(
        "libtorch → ndarray, and released",
        &[
            "`tensor.into_ndarray()` + drop",
            "C++ `toDLPackVersioned` + drop + deleter",
            "ratio",
            "`Vec::try_from(&tensor)` (copies)",
        ],
    );
    let options = tch::kind::FLOAT_CPU;
    for (name, side, count) in SIZES {
        let tensor = || tch::Tensor::empty([side as i64; 2], options);
        let ours = |tensor: tch::Tensor| drop(tensor.into_ndarray::<f32, Ix2>().expect("alone"));
        let floor = |blob: Blob| blob.consume();
        let times = race(
            &mut [
                Contender::batched("ours", tensor, ours),
                Contender::batched("floor", || Blob::from(tensor()), floor),
            ],
            ROUNDS,
            count,
        );
        let source = tch::Tensor::ones([(side * side) as i64], options);
        let copy = Contender::repeated("copy", || Vec::<f32>::try_from(&source).expect("copied"));
        let copied = time_of_copy(copy, side);
        row(name, &[ns(times[0]), ns(times[1]), format!("{:.2}", times[0] / times[1]), ns(copied)]);
    }
}

fn through_tensor() {
    heading(
        "Array → Tensor → NdArray → Array",
        &[
            "ours (the original `Array` comes back)",
            "malloc + free of 128 bytes, array handed on",
            "ratio",
            "malloc + free alone",
            "ratio",
            "dlpark: Array → DLPack → view",
            "dlpk: Array → DLPack → view",
        ],
    );
    let ours = |array: Array2<f32>| {
        let array = array.into_tensor().into_ndarray::<f32, Ix2>().expect("f32");
        array.into_array().expect("the original")
    };
    let floor = |array: Array2<f32>| {
        drop(black_box(Vec::<u8>::with_capacity(black_box(128))));
        array
    };
    for (name, side, count) in SIZES {
        let times = race(
            &mut [
                Contender::batched("ours", || array(side), ours),
                Contender::batched("floor", || array(side), floor),
                Contender::repeated("malloc", || Vec::<u8>::with_capacity(black_box(128))),
                Contender::batched("dlpark", || array(side), through_dlpark),
                Contender::batched("dlpk", || array(side), through_dlpk),
            ],
            ROUNDS,
            count,
        );
        row(name, &cells_of(&times[..4], times[4]));
    }
    let count = allocations(|| ours(array(16))) - 1;
    println!("\nAllocations of ours on the way: {count}.");
}

/// Array → DLPack → view, by dlpark.
fn through_dlpark(array: Array2<f32>) -> impl Sized {
    let boxed: dynamic::Initialized<DLManagedTensorVersioned> =
        Box::new(array).try_into().expect("exported");
    // SAFETY: dlpark itself made the struct from an array.
    let managed = unsafe { boxed.finish() };
    // SAFETY: `managed` holds valid elements and outlives the view.
    let view = unsafe { ArrayViewD::<f32>::try_from_dlpack(&managed, ()) }.expect("a view");
    black_box(view.as_ptr());
    managed
}

/// Array → DLPack → view, by dlpk.
fn through_dlpk(array: Array2<f32>) -> dlpk::DLPackTensor {
    let tensor: dlpk::DLPackTensor = array.try_into().expect("exported");
    let view: ArrayView2<'_, f32> = tensor.as_ref().try_into().expect("a view");
    black_box(view.as_ptr());
    tensor
}
