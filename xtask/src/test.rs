//! `cargo xtask test`: runs every test, and prints how many passed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{answers, nightly_is_new_enough, text};
use crate::python::Environments;
use crate::steps::timed;
use crate::{
    Outcome, cargo, concurrency, fake_cuda, fuzz, python, root, run, setup, show, succeeded, tools,
};

/// Runs the whole suite; ends with the sum of what the runs of cargo and pytest counted.
pub(crate) fn everything() -> Outcome {
    setup::libtorch_ready(None)?;
    // Installing is reading and writing: it takes place while compilers run.
    let environments = Environments::begin(None)?;
    let mut count = Count::default();
    // Without libtorch: no Python, no C++.
    count.run(&mut cargo(&["test"]))?;
    count.run(&mut cargo(&["test", "--no-default-features", "--lib", "--tests"]))?;
    count.run(&mut cargo(&["test", "--release", "--tests"]))?;
    sanitized(&mut count)?;
    count.run(&mut cargo(&["test", "--package", "dlbridge-fuzz"]))?;
    fuzz::in_tests()?;
    // With it, debug and release.
    count.run(&mut cargo(&["test", "--features", "torch", "--lib", "--tests", "--examples"]))?;
    count.run(&mut cargo(&["test", "--features", "torch", "--release", "--tests"]))?;
    count.run(&mut cargo(&["test", "--package", "dlbridge-benches"]))?;
    under_valgrind()?;
    let fake_cuda = fake_cuda::folder()?;
    cuda(&mut count, &fake_cuda)?;
    threads(&mut count, &fake_cuda)?;
    c_library(&mut count, &fake_cuda)?;
    python_suites(&mut count, environments, &fake_cuda)?;
    count.close()
}

/// Runs the Python suite in the environment of one version of CPython.
pub(crate) fn on_python(version: &str) -> Outcome {
    let environments = Environments::begin(Some(version))?;
    let mut count = Count::default();
    python_suites(&mut count, environments, &fake_cuda::folder()?)?;
    count.close()
}

fn python_suites(count: &mut Count, environments: Environments, fake_cuda: &Path) -> Outcome {
    for mut tests in python::tests(environments)? {
        count.run(tests.env("DLBRIDGE_FAKE_CUDA", fake_cuda))?;
    }
    Ok(())
}

/// The CUDA tests: on the fake driver, and without a driver, as most machines are.
fn cuda(count: &mut Count, fake_cuda: &Path) -> Outcome {
    count.run(&mut cargo(&["test", "--package", "dlbridge-fake-cuda"]))?;
    let on_fake_cuda = ["test", "--features", "cuda", "--lib", "--test", "cuda"];
    count.run(cargo(&on_fake_cuda).env("LD_LIBRARY_PATH", fake_cuda))?;
    count.run(cargo(&on_fake_cuda).arg("--release").env("LD_LIBRARY_PATH", fake_cuda))?;
    if let Some(mut test) = under_address_sanitizer(&["--features", "cuda", "--test", "cuda"]) {
        // Some tests leak memory on purpose.
        test.env("ASAN_OPTIONS", "allocator_may_return_null=1:detect_leaks=0");
        count.run(test.env("LD_LIBRARY_PATH", fake_cuda))?;
    }
    count.run(&mut cargo(&[
        "test",
        "--features",
        "cuda",
        "--test",
        "dlpack",
        "--test",
        "tensor",
    ]))?;
    let examples = ["test", "--features", "cuda,torch", "--doc"];
    count.run(cargo(&examples).env("LD_LIBRARY_PATH", fake_cuda))?;
    count.run(&mut cargo(&["test", "--features", "cuda,torch", "--test", "torch"]))
}

/// The tests of threads: every order of their steps, and ThreadSanitizer.
fn threads(count: &mut Count, fake_cuda: &Path) -> Outcome {
    count.run(&mut concurrency::under_loom(fake_cuda))?;
    match concurrency::under_thread_sanitizer()? {
        Some(mut test) => count.run(&mut test),
        None => {
            eprintln!(
                "\nskipped: ThreadSanitizer needs a C compiler and a nightly toolchain that is as \
                 new as the stable one"
            );
            Ok(())
        }
    }
}

/// The C library: in debug all there is, optimised what programs see of it.
fn c_library(count: &mut Count, fake_cuda: &Path) -> Outcome {
    tools::ready();
    for selection in [&[][..], &["--release", "--test", "suite", "programs::"]] {
        let mut test = cargo(&["test", "--package", "dlbridge-capi"]);
        test.args(selection).env("DLBRIDGE_FAKE_CUDA", fake_cuda);
        count.run(tools::found_by(&mut test))?;
    }
    Ok(())
}

/// Everything that does not link libtorch, under AddressSanitizer with its leak check.
fn sanitized(count: &mut Count) -> Outcome {
    for selection in [
        &["--test", "dlpack", "--test", "ffi", "--test", "ndarray", "--test", "tensor"][..],
        &["--package", "dlbridge-capi"],
    ] {
        match under_address_sanitizer(selection) {
            Some(mut test) => count.run(&mut test)?,
            None => eprintln!(
                "\nskipped: AddressSanitizer needs a nightly toolchain that is as new as the stable one"
            ),
        }
    }
    Ok(())
}

/// The command that runs tests under AddressSanitizer; `None` without a toolchain that has it.
fn under_address_sanitizer(selection: &[&str]) -> Option<Command> {
    if !nightly_is_new_enough() {
        return None;
    }
    let mut test = Command::new("rustup");
    test.args(["run", "nightly", "cargo", "test", "--lib", "--target", env!("TARGET")])
        .args(selection);
    test.env("RUSTFLAGS", "-Zsanitizer=address")
        .env("CARGO_TARGET_DIR", root().join("target/sanitized"));
    // Tests ask for more memory than there is, to see the error.
    test.env("ASAN_OPTIONS", "allocator_may_return_null=1").env_remove("CARGO").current_dir(root());
    Some(test)
}

/// The tour, which goes through libtorch, and the tests of `lend_torch`, under valgrind.
fn under_valgrind() -> Outcome {
    if !answers(Command::new("valgrind").arg("--version")) {
        eprintln!("\nskipped: valgrind is not installed");
        return Ok(());
    }
    let runner = format!("CARGO_TARGET_{}_RUNNER", env!("TARGET").to_uppercase().replace('-', "_"));
    let valgrind =
        "valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite";
    for arguments in [
        &["run", "--features", "torch", "--example", "tour"][..],
        &["test", "--features", "torch", "--test", "lend_torch", "--", "--test-threads=1"],
    ] {
        let mut command = cargo(arguments);
        // One thread is enough to look at, and valgrind runs them in turns anyway.
        run(command.env(&runner, valgrind).env("OMP_NUM_THREADS", "1").stdout(Stdio::null()))?;
    }
    Ok(())
}

/// Versions of tch for versions of libtorch.
const TCH: [(&str, &str); 2] = [("2.11", "0.24"), ("2.12", "0.25")];

/// Runs the libtorch part of the suite on another libtorch.
pub(crate) fn on_libtorch(version: &str) -> Outcome {
    let (workspace, libtorch, target) = workspace_on(version)?;
    let mut count = Count::default();
    for arguments in
        [&["test", "--features", "torch"][..], &["test", "--package", "dlbridge-benches"]]
    {
        let mut test = cargo(arguments);
        test.current_dir(&workspace)
            .env_remove("LIBTORCH_USE_PYTORCH")
            .env("LIBTORCH", &libtorch)
            .env("CARGO_TARGET_DIR", &target);
        count.run(&mut test)?;
    }
    count.close()
}

/// Makes a copy of the workspace whose lock file names the tch that goes with another libtorch.
/// Gives its folder, libtorch's, and the one for what is built.
pub(crate) fn workspace_on(version: &str) -> Outcome<(PathBuf, PathBuf, PathBuf)> {
    let Some((_, tch)) = TCH.iter().find(|(libtorch, _)| *libtorch == version) else {
        return Err(format!(
            "no tch is known for libtorch {version}; there are 2.11 and 2.12; `cargo xtask test` runs on 2.13"
        )
        .into());
    };
    let libtorch = setup::libtorch_ready(Some(version))?;
    let folder = root().join("target").join(format!("libtorch-{version}"));
    let copy = folder.join("workspace");
    copy_workspace(&copy)?;
    for package in ["tch", "torch-sys"] {
        let lock = fs::read_to_string(copy.join("Cargo.lock"))?;
        if lock.contains(&format!("name = \"{package}\"\nversion = \"{tch}.")) {
            continue;
        }
        run(cargo(&["update", package, "--precise", &format!("{tch}.0")]).current_dir(&copy))?;
    }
    Ok((copy, libtorch, folder.join("build")))
}

/// Copies the files of the workspace that git knows or would add.
fn copy_workspace(target: &Path) -> Outcome {
    if target.exists() {
        fs::remove_dir_all(target)?;
    }
    let mut list = Command::new("git");
    list.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let listed = list.output()?;
    if !listed.status.success() {
        return Err("`git ls-files` failed: this command needs a git checkout".into());
    }
    for file in String::from_utf8(listed.stdout)?.lines() {
        let (from, to) = (root().join(file), target.join(file));
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        if from.is_file() {
            fs::copy(from, to)?;
        }
    }
    Ok(())
}

/// What the runs of cargo and pytest counted.
#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Count {
    /// Runs tests, shows what they print, and adds up what they say at the end.
    fn run(&mut self, command: &mut Command) -> Outcome {
        show(command);
        let status = timed(text(command), || -> std::io::Result<_> {
            let mut child = command.stdout(Stdio::piped()).spawn()?;
            if let Some(output) = child.stdout.take() {
                for line in BufReader::new(output).lines() {
                    let line = line?;
                    println!("{line}");
                    self.add(&line);
                }
            }
            child.wait()
        });
        succeeded(command, status)
    }

    fn add(&mut self, line: &str) {
        // Cargo's summary, or pytest's.
        let pytest = line.contains(" passed") && line.contains(" in ");
        let Some(result) = line.strip_prefix("test result: ").or(pytest.then_some(line)) else {
            return;
        };
        for part in result.split(['.', ';', ',']) {
            let mut words = part.split_whitespace();
            if let (Some(Ok(number)), Some(what)) =
                (words.next().map(str::parse::<usize>), words.next())
            {
                match what {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    _ => {}
                }
            }
        }
    }

    fn close(&self) -> Outcome {
        println!("\n{} passed, {} failed", self.passed, self.failed);
        if self.passed > 0 && self.failed == 0 { Ok(()) } else { Err("tests failed".into()) }
    }
}
