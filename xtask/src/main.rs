//! The commands `cargo xtask …` that developers and CI run.

mod bench;
mod bindings;
mod chart;
mod check;
mod command;
mod concurrency;
mod copies;
mod count;
mod cross;
mod dist;
mod embedded;
mod environment;
mod examples;
mod fake_cuda;
mod format;
mod fuzz;
mod gpu;
#[cfg(feature = "bindgen")]
mod kernel;
mod layers;
mod miri;
mod notes;
mod packages;
mod prose;
mod python;
mod setup;
mod shape;
mod site;
mod steps;
mod target_rust;
mod targets;
mod template;
mod test;
mod tools;
mod torch;
mod unsafe_free;
mod workflows;

use std::path::Path;
use std::process::{Command, ExitCode};

use command::{Outcome, cargo, root, run, show, succeeded};

const USAGE: &str = "\
cargo xtask COMMAND

  setup                    make libtorch ready (LIBTORCH, LIBTORCH_USE_PYTORCH=1, or PyPI's wheel in .venv)
  demo                     the example quick, setup, the tour, the edge finder, and examples in C, C++ and Python
  test                     setup, then every test there is
  test --python 3.13       the Python suite with this version of CPython (3.11, 3.13), and its libraries
  test --libtorch 2.11     the suite on another libtorch (2.11, 2.12), in a folder of its own
  test --target NAME       the core's and the C library's tests, compiled for aarch64, s390x or musl;
                           QEMU runs those for another processor
  loom                     the tests in which loom tries every order of the threads' steps
  tsan                     the tests of threads under ThreadSanitizer
  miri                     tests under Miri; needs nightly with its components miri and rust-src
  fuzz [TARGET]            fuzz every target, or one, for ten minutes in all
  fuzz … --hours N         the same for N hours in all (or --minutes N)
  fuzz TARGET FILE         run one input again
  targets                  compile the packages for Windows, macOS and others, without linking
  check                    setup, then format, layers, shape, lints, documentation, targets, workflows, generated files
  format                   format every file: rustfmt, clang-format, ruff
  layers                   print the layers of modules; fail where modules import each other in a circle
  shape                    fail on functions that are too long, too nested, or have too many parameters
  examples                 count public items with an example; fail if a type or too many methods have none
  prose                    fail on vague words, and on comments that are too wide
  unsafe-free              fail on files that need no unsafe code and do not forbid it
  packages                 fail on published packages without a field, and on dead links in their READMEs
  workflows                fail on faults in the workflows of the public CI
  notes VERSION            print what CHANGELOG.md says about a release
  dist                     make wheels, archives and crates in target/dist, and try each in an empty environment
  dist --root FOLDER       try what is there in the root folder of a system without Rust
  third-party PACKAGE      print the licences of what is linked into a package
  docs                     build guides, references and benchmarks as one site in target/site, and check it
  bench                    setup, then the benchmarks; writes docs/benchmarks/<machine>.md
  bench PART               the same for one part of the page: exchange, calls, python or copies
  bench copies --quick     a run of about 90 seconds that prints the tables of copies, and writes no page
  bench copies --quick NAME   the same for all cases of the families and layouts whose names contain NAME
  bindings                 generate the Rust declarations of the C headers, and the kernels' PTX
  gpu-check                pack what a CUDA machine needs, and run it where there is one";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["setup"] => setup::libtorch_ready(None).map(drop),
        ["demo"] => demo(),
        ["test"] => steps::report(test::everything),
        ["test", "--python", version] => steps::report(|| test::on_python(version)),
        ["test", "--libtorch", version] => torch::on_libtorch(version),
        ["test", "--target", target] => steps::report(|| cross::on_target(target)),
        ["loom"] => concurrency::loom(),
        ["tsan"] => concurrency::tsan(),
        ["miri"] => miri::run_tests(),
        ["fuzz", ref rest @ ..] => fuzz::run(rest),
        ["targets"] => steps::report(targets::check_all),
        ["check"] => steps::report(check::everything),
        ["format"] => format::write(),
        ["packages"] => packages::check(),
        ["workflows"] => workflows::check(),
        ["notes", version] => notes::print(version),
        ["dist"] => dist::run(),
        ["dist", "--root", system] => dist::roots::run(system),
        ["docs"] => steps::report(site::build),
        ["third-party", package] => dist::third_party::print(package),
        ["bench"] => bench::run(None),
        ["bench", "copies", "--quick"] => bench::quick_copies(None),
        ["bench", "copies", "--quick", name] => bench::quick_copies(Some(name)),
        ["bench", part] => bench::run(Some(part)),
        ["layers"] => layers::check(),
        ["shape"] => shape::check(),
        ["examples"] => examples::check(),
        ["prose"] => prose::check(),
        ["unsafe-free"] => unsafe_free::check(),
        ["bindings"] => bindings::run(false),
        ["gpu-check"] => gpu::check(),
        ["bindgen-write"] => bindings::generate(false),
        ["bindgen-verify"] => bindings::generate(true),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Outcome {
    run(&mut cargo(&["run", "--example", "quick"]))?;
    setup::libtorch_ready(None)?;
    run(&mut cargo(&["run", "--release", "--features", "cuda,torch", "--example", "tour"]))?;
    run(&mut cargo(&["run", "--release", "--package", "edges"]))?;
    run(&mut cargo(&["build", "--release", "--package", "dlbridge-capi"]))?;
    let library = root().join("target/release");
    compiled("cc", "examples/c/transpose.c", &library, &[])?;
    let libtorch = setup::libtorch_folder()?;
    compiled("c++", "examples/cpp/round_trip.cpp", &library, &cpp_flags(&libtorch))?;
    run(&mut python::example("python/examples/tour.py")?)
}

/// Compiles an example in C or C++ against the library in a folder, and runs it.
fn compiled(compiler: &str, source: &str, library: &Path, flags: &[String]) -> Outcome {
    let program = library.join("examples").join(Path::new(source).file_stem().unwrap_or_default());
    let mut command = Command::new(compiler);
    command.current_dir(root()).args(["-O2", "-Iinclude", source]).args(flags);
    command.arg(format!("-L{}", library.display())).arg("-ldlbridge");
    run(command.arg(format!("-Wl,-rpath,{}", library.display())).arg("-o").arg(&program))?;
    // Cargo puts its own folders there, and libraries that are not optimised.
    run(Command::new(program).env_remove("LD_LIBRARY_PATH"))
}

/// What a C++ program needs to use libtorch.
fn cpp_flags(libtorch: &Path) -> Vec<String> {
    let (include, library) = (libtorch.join("include"), libtorch.join("lib"));
    let paths = [
        "-std=c++20".to_owned(),
        format!("-isystem{}", include.display()),
        format!("-isystem{}", include.join("torch/csrc/api/include").display()),
        format!("-L{}", library.display()),
        format!("-Wl,-rpath,{}", library.display()),
    ];
    paths.into_iter().chain(["-ltorch", "-ltorch_cpu", "-lc10"].map(str::to_owned)).collect()
}
