//! Measures deep copies: a fixed suite of layouts and element types, into used and fresh memory, on
//! one thread and on all, beside memcpy, libtorch, NumPy, ndarray and strided-perm.
//!
//! Prints a line for each measurement; `cargo xtask bench` makes tables and charts of them. NumPy
//! runs in a process of its own, started with the Python that the variable `DLBRIDGE_PYTHON` names.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::mem::MaybeUninit;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dlbridge::{Descriptor, Device, Element, Layout, MemoryFormat, Tensor};
use dlbridge_benches::{Blob, Contender, race};
use half::f16;
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use num_complex::Complex;
use strided_view::{StridedView, StridedViewMut};

/// Bytes of each target.
const BYTES: usize = 32 << 20;

/// Turns of each contender.
const ROUNDS: usize = 5;

fn main() {
    let mut numpy = NumPy::start();
    println!("numpy {}", numpy.ask("version"));
    small();
    suite::<u8>("u8", "u1", &mut numpy);
    suite::<f16>("f16", "f2", &mut numpy);
    suite::<f32>("f32", "f4", &mut numpy);
    suite::<f64>("f64", "f8", &mut numpy);
    suite::<Complex<f64>>("c128", "c16", &mut numpy);
}

/// A layout: shape, strides, and the offset of the first element, in elements.
struct Case {
    family: &'static str,
    name: &'static str,
    shape: Vec<usize>,
    strides: Vec<isize>,
    offset: usize,
}

impl Case {
    /// Dimensions of contiguous memory in another order.
    fn permuted(family: &'static str, name: &'static str, base: &[usize], order: &[usize]) -> Self {
        let mut strides = vec![1; base.len()];
        for dim in (1..base.len()).rev() {
            strides[dim - 1] = strides[dim] * base[dim] as isize;
        }
        Self {
            family,
            name,
            shape: order.iter().map(|&dim| base[dim]).collect(),
            strides: order.iter().map(|&dim| strides[dim]).collect(),
            offset: 0,
        }
    }

    /// The suite for about `n` elements.
    fn all(n: usize) -> Vec<Self> {
        let side = n.isqrt() / 64 * 64;
        let t = "2-D transposes";
        let p = "permutations";
        let i = "images";
        let m = "small matrices";
        let s = "strided";
        let rows = |name, strides: [isize; 2], offset| Self {
            family: s,
            name,
            shape: vec![1024, n / 1024],
            strides: strides.to_vec(),
            offset,
        };
        let columns = (n / 1024) as isize;
        vec![
            Self::permuted("contiguous", "contiguous", &[n], &[0]),
            Self::permuted(t, "square", &[side, side], &[1, 0]),
            Self::permuted(t, "tall, 64 columns", &[n / 64, 64], &[1, 0]),
            Self::permuted(t, "wide, 64 rows", &[64, n / 64], &[1, 0]),
            Self::permuted(t, "odd, 4097 rows", &[4097, n / 4096 - 1], &[1, 0]),
            Self::permuted(p, "(0, 2, 1)", &[64, 256, n / (64 * 256)], &[0, 2, 1]),
            Self::permuted(p, "(2, 1, 0)", &[64, 256, n / (64 * 256)], &[2, 1, 0]),
            Self::permuted(p, "(0, 2, 1, 3)", &[64, 32, 64, n / (64 * 32 * 64)], &[0, 2, 1, 3]),
            Self::permuted(p, "(3, 2, 1, 0)", &[32, 32, 64, n / (32 * 32 * 64)], &[3, 2, 1, 0]),
            Self::permuted(
                p,
                "(4, 1, 0, 3, 2)",
                &[32, 16, 32, 16, n / (512 * 512)],
                &[4, 1, 0, 3, 2],
            ),
            Self::permuted(
                p,
                "(5, 4, 3, 2, 1, 0)",
                &[16, 16, 16, 8, 8, n / (4096 * 64)],
                &[5, 4, 3, 2, 1, 0],
            ),
            rows("[:, ::2]", [2 * columns, 2], 0),
            rows("[:, ::-1]", [columns, -1], columns as usize - 1),
            rows("one row broadcast", [0, 1], 0),
            rows("one column broadcast", [1, 0], 0),
            Self::permuted(i, "NHWC → NCHW, C = 3", &[8, n / 24, 3], &[0, 2, 1]),
            Self::permuted(i, "NCHW → NHWC, C = 3", &[8, 3, n / 24], &[0, 2, 1]),
            Self::permuted(i, "NHWC → NCHW, C = 4", &[8, n / 32, 4], &[0, 2, 1]),
            Self::permuted(i, "NCHW → NHWC, C = 4", &[8, 4, n / 32], &[0, 2, 1]),
            Self::permuted(m, "many 8 × 8", &[n / 64, 8, 8], &[0, 2, 1]),
            Self::permuted(m, "many 3 × 3", &[n / 9, 3, 3], &[0, 2, 1]),
        ]
    }

    /// Elements of memory that the layout reaches.
    fn reach(&self) -> usize {
        let steps = self
            .shape
            .iter()
            .zip(&self.strides)
            .map(|(&size, &stride)| (size - 1) * stride.max(0) as usize);
        self.offset + steps.sum::<usize>() + 1
    }
}

fn suite<T: Unit>(name: &str, numpy_name: &str, numpy: &mut NumPy) {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for case in Case::all(BYTES / size_of::<T>()) {
        if case.family == "images" && !["u8", "f32"].contains(&name) {
            continue;
        }
        let mut bench = Bench::<T>::new(&case, numpy_name, numpy);
        for (memory, fresh) in [("used", false), ("fresh", true)] {
            for threads in [1, threads] {
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

/// The operations that all contenders need for an element type.
trait Unit: Element + Copy + Default + Send + Sync + 'static {}

impl<T: Element + Copy + Default + Send + Sync + 'static> Unit for T {}

/// One layout of one element type, with a source and a target for each contender.
struct Bench<'a, T: Unit> {
    case: &'a Case,
    numpy: &'a mut NumPy,
    source: Vec<T>,
    pool: threadteam::Pool,
}

impl<'a, T: Unit> Bench<'a, T> {
    fn new(case: &'a Case, numpy_name: &str, numpy: &'a mut NumPy) -> Self {
        let mut source = vec![T::default(); case.reach()];
        let bytes = source.as_mut_ptr().cast::<u8>();
        for index in 0..source.len() * size_of::<T>() {
            // Before the first write, the system maps all pages of new memory to one page of zeros.
            // SAFETY: a byte of the vector; every element type takes 0 and 1 in any byte.
            unsafe { bytes.wrapping_add(index).write((index % 7 == 0).into()) };
        }
        let list =
            |numbers: &mut dyn Iterator<Item = String>| numbers.collect::<Vec<_>>().join(",");
        let shape = list(&mut case.shape.iter().map(usize::to_string));
        let strides = list(&mut case.strides.iter().map(isize::to_string));
        numpy.ask(&format!("case {numpy_name} {} {shape} {strides} {}", source.len(), case.offset));
        let pool = threadteam::Pool::builder().build().expect("a pool");
        Self { case, numpy, source, pool }
    }

    /// The contenders, and their median times in nanoseconds.
    fn run(&mut self, fresh: bool, threads: usize) -> Vec<(&'static str, f64)> {
        let Case { shape, strides, offset, .. } = self.case;
        let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let steps: Vec<i64> = strides.iter().map(|&stride| stride as i64).collect();
        let first = self.source[*offset..].as_ptr();
        let layout = Layout::new(&sizes, &steps).expect("small");
        let descriptor =
            Descriptor::new(first.cast_mut().cast(), layout, T::DTYPE, Device::CPU).expect("small");
        // SAFETY: `self.source` holds the elements and outlives the tensor.
        let ours = unsafe { Tensor::from_raw_parts(descriptor, false, ()) };
        // SAFETY: no code writes `self.source` while the tensor lives.
        let ours = unsafe { ours.assume_read_only() }.expect("on the host");
        // libtorch does not support negative strides: it flips the tensor, which copies.
        let flipped = strides.iter().any(|&stride| stride < 0);
        let torch = Tensor::from_slice(&self.source, [self.source.len() as i64]).expect("copied");
        let torch = torch.into_torch().expect("moved");
        let torch = if flipped {
            torch.view(&sizes[..])
        } else {
            torch.as_strided(&sizes[..], &steps[..], 0)
        };
        let dense = Layout::contiguous(&sizes).expect("small");
        let sources = Sources {
            shape,
            dense: dense.strides().iter().map(|&stride| stride as isize).collect(),
            torch,
            flipped,
            flat: vec![T::default(); shape.iter().product()],
            view: ours.as_ndarray::<T, IxDyn>().expect("a view"),
            ours: &ours,
            strided: StridedView::new(&self.source, shape, strides, *offset as isize)
                .expect("in bounds"),
            pool: &self.pool,
            threads,
        };
        let numpy = self.numpy.contender(if fresh { "fresh" } else { "used" });
        if fresh { sources.into_fresh(numpy) } else { sources.into_used(numpy) }
    }
}

/// One source, in the form that each contender takes.
struct Sources<'a, T: Unit> {
    shape: &'a [usize],
    /// Strides of a contiguous target.
    dense: Vec<isize>,
    ours: &'a Tensor,
    torch: tch::Tensor,
    /// The strides of the source are negative, and libtorch flips it.
    flipped: bool,
    /// As many contiguous elements, for memcpy.
    flat: Vec<T>,
    view: ArrayViewD<'a, T>,
    strided: StridedView<'a, T>,
    pool: &'a threadteam::Pool,
    threads: usize,
}

impl<T: Unit> Sources<'_, T> {
    fn exec(&self) -> threadteam::Exec<'_> {
        match self.threads {
            1 => threadteam::Exec::serial(),
            threads => threadteam::Exec::new(self.pool, threads).expect("a budget"),
        }
    }

    /// Copies into memory that is allocated during the copy.
    fn into_fresh(self, numpy: Contender<'_>) -> Vec<(&'static str, f64)> {
        let ours = || self.ours.deep_clone_with(MemoryFormat::Contiguous).expect("copied");
        let torch = || match self.flipped {
            true => Blob::from(self.torch.flip([1])),
            false => Blob::clone_of(&self.torch, true),
        };
        let strided = || {
            let count = self.flat.len();
            let mut target = Vec::<T>::with_capacity(count);
            let unwritten: &mut [MaybeUninit<T>] = &mut target.spare_capacity_mut()[..count];
            let mut to =
                StridedViewMut::new(unwritten, self.shape, &self.dense, 0).expect("in bounds");
            strided_perm::copy_into_uninit(&mut to, &self.strided, self.exec()).expect("copied");
            // SAFETY: `copy_into_uninit` has just written all `count` elements.
            unsafe { target.set_len(count) };
            target
        };
        turns(vec![
            Contender::repeated("dlbridge", ours),
            Contender::repeated("memcpy", || self.flat.to_vec()),
            Contender::repeated("libtorch", torch),
            numpy,
            Contender::repeated("ndarray", || self.view.as_standard_layout().into_owned()),
            Contender::repeated("strided-perm", strided),
        ])
    }

    /// Copies into memory that was written before.
    fn into_used(self, numpy: Contender<'_>) -> Vec<(&'static str, f64)> {
        let sizes: Vec<i64> = self.shape.iter().map(|&size| size as i64).collect();
        let mut ours_target = Tensor::zeros::<T>(&sizes).expect("allocated");
        let mut copy = vec![T::default(); self.flat.len()];
        let mut torch_target = self.torch.zeros_like().contiguous();
        let mut array = ArrayD::<T>::from_elem(IxDyn(self.shape), T::default());
        let mut strided_target = vec![T::default(); self.flat.len()];
        turns(vec![
            Contender::repeated("dlbridge", || {
                self.ours.copy_into(&mut ours_target).expect("copied")
            }),
            Contender::repeated("memcpy", || {
                black_box(&mut copy).copy_from_slice(black_box(&self.flat))
            }),
            Contender::repeated("libtorch", || match self.flipped {
                true => torch_target.copy_(&self.torch.flip([1])),
                false => torch_target.copy_(&self.torch),
            }),
            numpy,
            Contender::repeated("ndarray", || array.assign(&self.view)),
            Contender::repeated("strided-perm", || {
                let target = &mut strided_target;
                let mut to =
                    StridedViewMut::new(target, self.shape, &self.dense, 0).expect("in bounds");
                strided_perm::copy_into(&mut to, &self.strided, self.exec()).expect("copied");
            }),
        ])
    }
}

fn turns(mut contenders: Vec<Contender<'_>>) -> Vec<(&'static str, f64)> {
    let times = race(&mut contenders, ROUNDS, 1);
    contenders.iter().map(|contender| contender.name).zip(times).collect()
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

/// NumPy in a process of its own.
struct NumPy {
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl NumPy {
    fn start() -> Self {
        let python = std::env::var("DLBRIDGE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/numpy_turns.py");
        let mut process = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{python} does not start: {error}"));
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, answers }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.process.stdin.as_mut().expect("piped"), "{line}").expect("NumPy listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("NumPy answers");
        assert!(!answer.is_empty(), "{line}: NumPy's process is gone");
        answer.trim_end().to_owned()
    }

    /// The times that the process measured, in nanoseconds.
    fn contender(&mut self, memory: &'static str) -> Contender<'_> {
        let run = move |_| Duration::from_nanos(self.ask(memory).parse().expect("a number"));
        Contender { name: "NumPy", run: Box::new(run) }
    }
}

impl Drop for NumPy {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
