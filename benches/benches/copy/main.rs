//! Measures deep copies: a fixed suite of layouts and element types, into used and fresh memory, on
//! one thread and on all, beside copies of plain bytes, libtorch, NumPy, ndarray and strided-perm;
//! and the family "clone and drop" at several sizes.
//!
//! Prints a line for each measurement; `cargo xtask bench` makes tables and charts of them. NumPy
//! runs in a process of its own, started with the Python that the variable `DLBRIDGE_PYTHON` names.
//! A second NumPy takes part if `DLBRIDGE_PYTHON_NEWEST` is set. `--quick` makes fewer
//! measurements, and an argument after it selects families and layouts by a part of their names.

mod cases;
mod clone_and_drop;
mod contenders;
mod plain_copies;
mod worker;

use dlbridge::{MemoryFormat, Tensor};
use dlbridge_benches::{Blob, Contender, race};
use half::f16;
use num_complex::Complex;

use cases::{Case, Selection};
use contenders::{Bench, Unit};
use worker::{NumPy, Worker};

/// Bytes of each target.
const BYTES: usize = 32 << 20;

/// Turns of each contender. A whole run takes about ten minutes with three.
const ROUNDS: usize = 3;

/// Blocks of at least this size are mapped anew for each allocation, where a contender shall get
/// fresh memory.
const MMAP_THRESHOLD_BYTES: i32 = 64 << 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == clone_and_drop::WORKER) {
        return clone_and_drop::work(&arguments[1..]);
    }
    let selection = Selection::new(&arguments);
    let versions = NumPy::all();
    without_recycling();
    let mut numpy: Vec<(&str, Worker)> =
        versions.iter().map(|version| (version.name, version.start(true))).collect();
    for (name, worker) in &mut numpy {
        println!("version\t{name}\t{}", worker.ask("version"));
    }
    small();
    suite::<u8>("u8", "u1", &mut numpy, &selection);
    suite::<f16>("f16", "f2", &mut numpy, &selection);
    suite::<f32>("f32", "f4", &mut numpy, &selection);
    suite::<f64>("f64", "f8", &mut numpy, &selection);
    suite::<Complex<f64>>("c128", "c16", &mut numpy, &selection);
    drop(numpy);
    clone_and_drop::measure(&selection, &versions);
}

/// Makes new memory of this process really new: without this, glibc and the cache of dlbridge give
/// a contender the pages of a block that it or another contender has just released.
fn without_recycling() {
    dlbridge::set_cache_limit(0);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: sets a number; no other thread allocates yet.
        let set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES) };
        assert_eq!(set, 1, "glibc takes the threshold");
    }
}

/// New memory for `elements` elements, of which every page was written. dlbridge's memory of this
/// size begins at a huge page (2 MiB) and consists of huge pages, where the system has them.
///
/// Sources and used targets of all contenders are of this kind, because copies of the same bytes
/// take up to 1.4 times as long with small pages.
fn written<T: Unit>(elements: usize) -> Tensor {
    let mut memory = Tensor::zeros::<T>([elements]).expect("allocated");
    let slice = memory.as_slice_mut::<T>().expect("only this handle");
    // Before the first write, the system maps all pages of new memory to one page of zeros.
    // SAFETY: all bytes of the slice; every element type takes 1 in any byte.
    unsafe { slice.as_mut_ptr().cast::<u8>().write_bytes(1, size_of_val(slice)) };
    memory
}

/// The number of threads of a measurement that uses all of them.
fn all_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn suite<T: Unit>(
    name: &str,
    numpy_name: &str,
    numpy: &mut [(&'static str, Worker)],
    selection: &Selection,
) {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    for case in Case::all(BYTES / size_of::<T>()) {
        if !selection.has(&case, name) {
            continue;
        }
        let mut bench = Bench::<T>::new(&case, numpy_name, numpy, ROUNDS);
        for (memory, fresh) in [("used", false), ("fresh", true)] {
            for threads in [1, all_threads()] {
                tch::set_num_threads(threads as i32);
                let mut run = || bench.run(fresh, threads);
                let results = if threads == 1 { one.install(run) } else { run() };
                for (contender, time) in results {
                    let speed =
                        case.shape.iter().product::<usize>() as f64 * size_of::<T>() as f64 / time;
                    let (family, layout) = (case.family, case.name);
                    println!(
                        "copy\t{family}\t{layout}\t{name}\t{memory}\t{threads}\t{contender}\t{speed:.3}"
                    );
                }
            }
        }
    }
}

/// The latency of cloning 3 × 4 `f32`.
fn small() {
    let ours = Tensor::from_vec(vec![0.5_f32; 12], [3, 4]).expect("12 elements");
    let transposed = ndarray::Array2::<f32>::zeros((4, 3)).reversed_axes();
    let ours_transposed = Tensor::from(transposed);
    let torch = ours.to_torch().expect("copied");
    let torch_transposed = ours_transposed.to_torch().expect("copied");
    let mut contenders = [
        Contender::repeated("contiguous\tdlbridge", || ours.deep_clone().expect("cloned")),
        Contender::repeated("contiguous\tlibtorch", || Blob::clone_of(&torch, false)),
        Contender::repeated("transposed to contiguous\tdlbridge", || {
            ours_transposed.deep_clone_with(MemoryFormat::Contiguous).expect("cloned")
        }),
        Contender::repeated("transposed to contiguous\tlibtorch", || {
            Blob::clone_of(&torch_transposed, true)
        }),
    ];
    let times = race(&mut contenders, 101, 1000);
    for (contender, time) in contenders.iter().zip(times) {
        println!("small\t{}\t{time:.0}", contender.name);
    }
}
