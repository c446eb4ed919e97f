//! The tests that link libtorch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::command::answers;
use crate::count::Count;
use crate::{Outcome, cargo, root, run, setup};

/// The packages that link libtorch, and the features of the core. If they are always built
/// together, each dependency is built once: which of its features it has depends on all packages.
const SELECTION: [&str; 14] = [
    "--package",
    "dlbridge",
    "--package",
    "dlbridge-benches",
    "--package",
    "edges",
    "--package",
    "indirect-library",
    "--package",
    "indirect-program",
    "--package",
    "neighbours",
    "--features",
    "dlbridge/cuda,dlbridge/ndarray-0_16,dlbridge/safetensors,dlbridge/torch",
];

/// A cargo command for the packages that link libtorch.
pub(crate) fn packages(command: &str) -> Command {
    let mut packages = cargo(&[command]);
    packages.args(SELECTION);
    packages
}

/// Runs the tests with libtorch: in debug with CUDA, whose driver is not there, and optimised
/// without CUDA; the examples; some tests under valgrind.
pub(crate) fn test(count: &mut Count) -> Outcome {
    let mut build = packages("build");
    run(build.args(["--example", "tour", "--example", "without_rpath", "--bins"]))?;
    for program in ["edges", "filter"] {
        run(&mut Command::new(root().join("target/debug").join(program)))?;
    }
    programs_find_libtorch()?;
    let mut debug = packages("test");
    debug
        .args(["--lib", "--examples", "--test", "dlpark"])
        .args(tests(&["tests", "benches/tests"])?);
    count.run(debug.args(["--", "--skip", COPY_TESTS]))?;
    let mut release = cargo(&["test", "--release", "--features", "torch,ndarray-0_16", "--lib"]);
    // The other tests that name libtorch were optimised without it: they are about other things.
    release.args(["--test", "lend_torch", "--test", "torch", "--", "--skip", COPY_TESTS]);
    count.run(&mut release)?;
    under_valgrind()
}

/// The tests of the copy engine, which neither libtorch nor CUDA changes. They run without both.
pub(crate) const COPY_TESTS: &str = "copy::tests::";

/// Runs the programs that depend on dlbridge only through another library: one has a run-time path
/// to libtorch, the other starts only with `LD_LIBRARY_PATH`. `docs/rust.md` describes both ways.
fn programs_find_libtorch() -> Outcome {
    let programs = root().join("target/debug");
    let mut with_rpath = Command::new(programs.join("indirect-program"));
    run(with_rpath.env_remove("LD_LIBRARY_PATH"))?;
    let without_rpath = || Command::new(programs.join("examples/without_rpath"));
    if answers(without_rpath().env_remove("LD_LIBRARY_PATH")) {
        return Err("a program without a run-time path found libtorch by itself".into());
    }
    run(without_rpath().env("LD_LIBRARY_PATH", setup::libtorch_folder()?.join("lib")))
}

/// Arguments that select the tests in some folders that need libtorch, or have parts for it: those
/// of the core that name the feature, and all of other packages. The other tests of the core are
/// the same without libtorch.
fn tests(folders: &[&str]) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(root().join(folder))? {
            let path = entry?.path();
            let is_test = path.join("main.rs").is_file() || path.extension() == Some("rs".as_ref());
            if is_test && (*folder != "tests" || names_torch(&path)?) {
                let name = path.file_stem().unwrap_or_default();
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    names.sort_unstable();
    Ok(names.into_iter().flat_map(|name| ["--test".to_owned(), name]).collect())
}

/// Whether a test, a file or a folder, names the feature, or is named after it.
fn names_torch(test: &Path) -> Outcome<bool> {
    if test.is_file() {
        let name = test.file_stem().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(test)?;
        return Ok(name.contains("torch") || text.contains("feature = \"torch\""));
    }
    let mut files = fs::read_dir(test)?.map(|entry| Ok(entry?.path()));
    files.try_fold(test.ends_with("torch"), |found, file: std::io::Result<PathBuf>| {
        Ok(found || names_torch(&file?)?)
    })
}

/// The tour, which goes through libtorch, and the tests of `lend_torch`, under valgrind.
fn under_valgrind() -> Outcome {
    if !answers(Command::new("valgrind").arg("--version")) {
        eprintln!("\nskipped: valgrind is not installed");
        return Ok(());
    }
    let options =
        ["--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"];
    let runner = format!("CARGO_TARGET_{}_RUNNER", env!("TARGET").to_uppercase().replace('-', "_"));
    let mut tour = Command::new("valgrind");
    tour.args(options).arg(root().join("target/debug/examples/tour")).current_dir(root());
    let mut lend = packages("test");
    lend.args(["--test", "lend_torch", "--", "--test-threads=1"]);
    lend.env(&runner, format!("valgrind {}", options.join(" ")));
    // One thread of each is enough to look at, and valgrind runs threads in turns anyway.
    let under = |command: &mut Command| {
        let outcome = run(command.env("OMP_NUM_THREADS", "1").stdout(Stdio::null()));
        outcome.map_err(|error| error.to_string())
    };
    thread::scope(|scope| {
        let toured = scope.spawn(|| under(&mut tour));
        under(&mut lend)?;
        Ok(toured.join().map_err(|_| "a thread panicked")??)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_shows_the_build_script_that_is_tested() {
        let read = |path: &str| fs::read_to_string(root().join(path)).expect("a text file");
        let script = read("tests/indirect/program/build.rs");
        let code = script.lines().skip_while(|line| line.starts_with("//!") || line.is_empty());
        let code: Vec<_> = code.map(|line| format!("  {line}")).collect();
        assert!(read("docs/rust.md").contains(&code.join("\n")));
    }
}
