//! `cargo xtask bench`: the benchmarks, and `docs/benchmarks.md` with what they print.

use std::fs;
use std::process::{Command, Stdio};

use crate::copies::Copies;
use crate::{Outcome, cargo, python, root, setup, show};

const HEAD: &str = "\
# Benchmarks

Written by `cargo xtask bench`; every number was measured in the run that its part describes. Contenders
take turns within one run, and each figure is the median of its turns, so compare figures of one table, not
of two. On a noisy machine only ratios mean something. [An earlier run](benchmarks-xeon.md) was on another
machine.
";

/// The parts of the page: a name for the command line, and a heading.
const PARTS: [(&str, &str); 5] = [
    ("exchange", "## Exchange"),
    ("calls", "## Calls of the C library"),
    ("python", "## Python"),
    ("copies", "## Copies"),
    (GPU, "## CUDA"),
];

/// The part that stays as it is: it is measured on other machines, by `cargo xtask gpu-check`.
const GPU: &str = "cuda";

/// Runs every benchmark, or those of one part, and writes down what they print. Other parts of the page stay.
pub(crate) fn run(only: Option<&str>) -> Outcome {
    let parts = PARTS.map(|(name, _)| name).into_iter().filter(|&name| name != GPU).collect::<Vec<_>>();
    if only.is_some_and(|only| !parts.contains(&only)) {
        return Err(format!("there is no such part; there are {}", parts.join(", ")).into());
    }
    setup::libtorch_ready(None)?;
    let path = root().join("docs/benchmarks.md");
    let before = fs::read_to_string(&path).unwrap_or_default();
    let mut page = HEAD.to_owned();
    for (name, heading) in PARTS {
        if name != GPU && only.is_none_or(|only| only == name) {
            page.push_str(&format!("\n{heading}\n\n{}\n", machine()));
            match name {
                "exchange" => page.push_str(&[EXCHANGE, &output_of("exchange")?, GOALS].concat()),
                "calls" => page.push_str(&[CALLS, &calls()?, CALL_GOALS].concat()),
                "python" => page.push_str(&[PYTHON, &from_python()?, PYTHON_GOALS].concat()),
                _ => Copies::parse(&output_of("copy")?).write(&mut page, &root().join("docs/benchmarks"))?,
            }
        } else if let Some((_, rest)) = before.split_once(&format!("\n{heading}\n")) {
            let part = rest.split_once("\n## ").map_or(rest, |(part, _)| part);
            page.push_str(&format!("\n{heading}\n{part}"));
        }
    }
    fs::create_dir_all(root().join("docs"))?;
    fs::write(&path, page)?;
    eprintln!("written: {}", path.display());
    Ok(())
}

/// Runs one of the benchmarks; gives what it prints.
fn output_of(name: &str) -> Outcome<String> {
    let mut bench = cargo(&["bench", "--package", "dlbridge-benches", "--bench", name]);
    let python = setup::ensure_package(&setup::venv(None), "numpy")?.join("bin/python");
    show(bench.env("DLBRIDGE_PYTHON", python));
    let output = bench.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the benchmark {name} failed").into());
    }
    let text = String::from_utf8(output.stdout)?;
    println!("{text}");
    Ok(text)
}

/// Compiles and runs the benchmark in C; gives what it prints.
fn calls() -> Outcome<String> {
    crate::run(&mut cargo(&["build", "--release", "--package", "dlbridge-capi"]))?;
    let library = root().join("target/release");
    let program = library.join("call");
    let mut compiler = Command::new("cc");
    compiler.current_dir(root()).args(["-O2", "-std=c11", "-Iinclude", "benches/c/call.c"]);
    compiler.arg(format!("-L{}", library.display())).arg("-ldlbridge");
    crate::run(compiler.arg(format!("-Wl,-rpath,{}", library.display())).arg("-o").arg(&program))?;
    let mut bench = Command::new(program);
    // Cargo puts its own folders there, and libraries that are not optimised.
    show(bench.env_remove("LD_LIBRARY_PATH"));
    let output = bench.output()?;
    if !output.status.success() {
        return Err("the benchmark in C failed".into());
    }
    let text = String::from_utf8(output.stdout)?;
    println!("{text}");
    Ok(text)
}

/// Runs the benchmark in Python; gives what it prints.
fn from_python() -> Outcome<String> {
    let mut bench = python::example("benches/python/host.py")?;
    setup::ensure_packages(&setup::venv(None), &[python::TVM_FFI])?;
    show(&bench);
    let output = bench.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("the benchmark in Python failed".into());
    }
    let text = String::from_utf8(output.stdout)?;
    println!("{text}");
    Ok(text)
}

const PYTHON: &str = "\
`benches/python.py`: tensors of 4 × 4 `f32` change hands, and 32 MiB are copied. A ratio of times says how much
longer ours takes (below 1: it is faster); a ratio of GB/s, how many times as fast ours is.

";

const PYTHON_GOALS: &str = "
Goals: as in the table; for copies those of the copy engine (below), which is the same, and misses the same here:
5 × libtorch and 8 × NumPy on average. Into fresh memory the time is mostly the system's, which makes the pages.

`dl.from_dlpack(torch)` misses its goal. It asks PyTorch first whether the tensor requires gradient, and whether its
negative (and, where it is complex, its conjugate) bit is set, which the exchange table does not: tvm-ffi hands such
tensors on with wrong values. Asking takes about 100 ns, because `is_neg()` lets go of the interpreter.

`np.from_dlpack(dl)` and `torch.from_dlpack(dl)` are within a few per cent of tvm-ffi's, either way from run to run.
";

const CALLS: &str = "\
`benches/call.c`: a producer in C makes a DLPack struct, and either calls its deleter directly or lets the
library take it over and release it. Times are of one operation, making the struct included in the columns
that make one. The ratio is what the library adds, in units of one malloc + free in a hot loop.
";

const CALL_GOALS: &str = "
Goal: at most 3 × malloc + free extra. A struct that says everything in the ordinary way is kept as it is, in
one allocation; time grows with the dimensions, because each one's size and stride are looked at.
";

const EXCHANGE: &str = "\
`benches/exchange.rs`: square `f32` matrices change hands. Times are of one operation; making the
inputs is left out. The ratios are ours to C++'s.
";

const GOALS: &str = "
### Goals of the exchange

| goal | where to look |
|---|---|
| ndarray → libtorch at most 1.15 × C++'s `for_blob().context()`, one allocation, flat from 1 KiB to 1 GiB | compare the first table: ours builds the tensor without `for_blob`'s detours through dispatch and tracing |
| libtorch → ndarray at most 1.5 × C++'s consumption | compare the second table: what ours adds is constant (one allocation, the proof of exclusivity, the view), so it weighs most where the tensor is small and its release costs nothing |
| Array → Tensor → NdArray → Array at most 3 × malloc + free, one allocation, faster than dlpark and dlpk | compare the third table; malloc + free alone, in a hot loop that moves nothing, is a floor of another kind |
";

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let first_line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or("unknown").to_owned()
    };
    let libtorch = setup::installed(&setup::libtorch(None)).unwrap_or_else(|| "of the user".to_owned());
    format!(
        "{}, {cores} cores, {}; {}; {}; libtorch {libtorch}.\n",
        cpu.unwrap_or("unknown processor"),
        first_line("date", &["+%Y-%m-%d"]),
        first_line("rustc", &["--version"]),
        first_line("c++", &["--version"]),
    )
}
