//! The family "clone and drop": a program clones a matrix and drops the clone, again and again.
//!
//! Whether the next clone gets the pages of the last one back depends on the allocator and on what
//! the process allocated before. So each contender has a process of its own for each size, with
//! the allocator's default settings.

use std::env;
use std::hint::black_box;
use std::io::{BufRead, stdin};
use std::process::Command;
use std::time::Instant;

use dlbridge::{MemoryFormat, Tensor};
use dlbridge_benches::{Blob, median, race_in_rounds};

use crate::cases::Selection;
use crate::worker::{NumPy, Worker, numpy_case};

/// The first argument of a process that measures one contender.
pub(crate) const WORKER: &str = "clone-and-drop";

const FAMILY: &str = "clone and drop";

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Bytes of the matrices.
const SIZES: [usize; 12] = [
    64 * KIB,
    256 * KIB,
    MIB,
    2 * MIB,
    4 * MIB,
    8 * MIB,
    16 * MIB,
    31 * MIB,
    48 * MIB,
    64 * MIB,
    128 * MIB,
    256 * MIB,
];

/// The sizes that a quick run measures.
const QUICK: [usize; 4] = [MIB, 4 * MIB, 16 * MIB, 48 * MIB];

/// glibc recycles blocks of up to this size once it has seen the size.
const RECYCLED_MAX_BYTES: usize = 32 * MIB;

/// Clones before the first turn, of sizes that glibc recycles and of others. For the aligned blocks
/// of libtorch, glibc's heap grows for about 20 clones until it recycles them.
const WARM_UP: [usize; 2] = [30, 3];

/// Turns of each contender. They are short and many, because a ratio is the median of the ratios of
/// the rounds: what slows the machine down for a while affects all contenders of a round.
const ROUNDS: usize = 9;
const QUICK_ROUNDS: usize = 5;

/// Clones of this many bytes make one turn, but at least one clone and at most 100.
const TURN_BYTES: usize = 32 * MIB;

/// The contenders that this program measures itself, dlbridge first. "warm" copies into one target
/// again and again.
const OURS: [&str; 3] = ["dlbridge", "warm", "libtorch"];

/// Measures the family, if it is selected, and prints a line for each measurement.
pub(crate) fn measure(selection: &Selection, numpy: &[NumPy]) {
    if !selection.names(FAMILY) {
        return;
    }
    let sizes: &[usize] = if selection.quick { &QUICK } else { &SIZES };
    for layout in ["contiguous", "transposed"] {
        for threads in [1, crate::all_threads()] {
            for &bytes in sizes {
                measure_size(selection, numpy, (layout, threads, bytes));
            }
        }
    }
}

fn measure_size(
    selection: &Selection,
    numpy: &[NumPy],
    (layout, threads, bytes): (&str, usize, usize),
) {
    let side = side_of(bytes);
    let strides = if layout == "transposed" { [1, side as isize] } else { [side as isize, 1] };
    let mut workers: Vec<(&str, Worker)> =
        OURS.iter().map(|&name| (name, start(name, layout, threads, bytes))).collect();
    for version in numpy {
        let mut worker = version.start(false);
        worker.ask(&numpy_case("f4", side * side, &[side; 2], &strides, 0));
        workers.push((version.name, worker));
    }
    let warm_up = WARM_UP[usize::from(bytes > RECYCLED_MAX_BYTES)];
    workers.iter_mut().for_each(|(_, worker)| drop(worker.ask(&format!("loop {warm_up}"))));
    let mut contenders: Vec<_> =
        workers.iter_mut().map(|(name, worker)| worker.contender(name, "loop")).collect();
    let count = (TURN_BYTES / bytes).clamp(1, 100);
    let rounds = if selection.quick { QUICK_ROUNDS } else { ROUNDS };
    let times = race_in_rounds(&mut contenders, rounds, count);
    for (contender, all) in contenders.iter().zip(&times) {
        let ratios = all.iter().zip(&times[0]).map(|(time, ours)| time / ours);
        let ratio = median(ratios.collect());
        let speed = (side * side * size_of::<f32>()) as f64 / median(all.clone());
        let name = contender.name;
        println!("loop\t{layout}\t{bytes}\t{threads}\t{name}\t{speed:.3}\t{ratio:.3}");
    }
}

/// The rows and columns of an `f32` matrix of about `bytes` bytes.
fn side_of(bytes: usize) -> usize {
    (bytes / size_of::<f32>()).isqrt() / 16 * 16
}

/// Starts this program as the process of one contender.
fn start(name: &str, layout: &str, threads: usize, bytes: usize) -> Worker {
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    command.args([WORKER, name, layout]).arg(threads.to_string()).arg(bytes.to_string());
    Worker::start(command.env("RAYON_NUM_THREADS", threads.to_string()))
}

/// Measures one contender in this process: answers each request `loop COUNT` with the median time
/// of a clone and its drop, in nanoseconds.
pub(crate) fn work(arguments: &[String]) {
    let [name, layout, threads, bytes, ..] = arguments else { panic!("four arguments") };
    let threads: usize = threads.parse().expect("a number");
    let side = side_of(bytes.parse().expect("a number")) as i64;
    let transposed = layout == "transposed";
    tch::set_num_threads(threads as i32);
    let source = crate::written::<f32>((side * side) as usize).reshape([side; 2]).expect("a view");
    let source = if transposed { source.permute([1, 0]).expect("two dimensions") } else { source };
    match &**name {
        "dlbridge" => answer(|| source.deep_clone_with(MemoryFormat::Contiguous).expect("copied")),
        "warm" => {
            let mut target = Tensor::zeros::<f32>(&[side; 2]).expect("allocated");
            answer(|| source.copy_into(&mut target).expect("copied"));
        }
        _ => {
            let source = source.into_torch().expect("moved");
            answer(|| Blob::clone_of(&source, true));
        }
    }
}

fn answer<R>(mut operation: impl FnMut() -> R) {
    let mut time = || {
        let start = Instant::now();
        drop(black_box(operation()));
        start.elapsed().as_secs_f64() * 1e9
    };
    for line in stdin().lock().lines() {
        let line = line.expect("text");
        let count = line.split(' ').next_back().and_then(|count| count.parse().ok());
        let count: usize = count.expect("the request ends with a number");
        // The first operation is not counted: another contender may have used the caches.
        time();
        println!("{}", median((0..count).map(|_| time()).collect()));
    }
}
