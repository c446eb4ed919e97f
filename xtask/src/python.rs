//! The Python package: its wheel, the libraries on its other side, its tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, root, run, setup};

const MATURIN: &str = "maturin==1.16.0";
const RUFF: &str = "ruff==0.17.6";
/// Its wheel carries upstream's `dlpack.h` too.
pub(crate) const TVM_FFI: &str = "apache-tvm-ffi==0.1.15.post2";

/// What tests the package, and the libraries that it exchanges with, beside torch and NumPy.
const PACKAGES: [&str; 11] = [
    "pytest==9.2.0",
    "mypy==2.4.1",
    "abi3audit==0.0.26",
    "jax[cpu]==0.10.2",
    TVM_FFI,
    "ml_dtypes==0.6.0",
    "array-api-strict==2.6.1",
    "ray==2.60.0",
    "joblib==1.6.0",
    "greenlet==3.5.6",
    "distributed==2026.8.0",
];

/// Builds the wheel and installs it into our virtual environment, beside torch and NumPy; gives the
/// folder of its programs.
pub(crate) fn installed() -> Outcome<PathBuf> {
    let venv = setup::venv(None);
    let torch = format!("torch=={}", setup::TORCH);
    let programs = setup::ensure_packages(&venv, &[&torch, "numpy", MATURIN])?.join("bin");
    let wheels = wheels();
    if wheels.exists() {
        fs::remove_dir_all(&wheels)?;
    }
    // As `pip install .` does, but with the maturin that is here.
    let mut build = pip(&programs);
    build
        .args(["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"])
        .arg(&wheels);
    run(build.arg(root().join("python")))?;
    let wheel = the_wheel(&wheels)?;
    run(pip(&programs).args(["install", "--quiet", "--no-deps", "--force-reinstall"]).arg(&wheel))?;
    Ok(programs)
}

/// The tests of the package, to be run.
pub(crate) fn tests() -> Outcome<Command> {
    let programs = installed()?;
    setup::ensure_packages(&setup::venv(None), &PACKAGES)?;
    // The wheel keeps to what every Python from 3.11 on has.
    let mut audit = Command::new(programs.join("abi3audit"));
    audit.args(["--strict", "--summary", "--assume-minimum-abi3", "3.11"]);
    run(audit.arg(the_wheel(&wheels())?))?;
    let mut tests = Command::new(programs.join("pytest"));
    tests.arg("python/tests").current_dir(root()).env_remove("LD_LIBRARY_PATH");
    Ok(tests)
}

/// An example in Python, to be run.
pub(crate) fn example(path: &str) -> Outcome<Command> {
    let mut example = Command::new(installed()?.join("python"));
    example.arg(path).current_dir(root()).env_remove("LD_LIBRARY_PATH");
    Ok(example)
}

/// Fails on what ruff finds in the Python files.
pub(crate) fn lint() -> Outcome {
    ruff(&["check"])
}

/// Runs ruff over the Python files.
pub(crate) fn ruff(arguments: &[&str]) -> Outcome {
    let ruff = setup::ensure_packages(&setup::venv(None), &[RUFF])?.join("bin/ruff");
    let mut ruff = Command::new(ruff);
    ruff.args(arguments).args([".", "../benches/python"]);
    run(ruff.current_dir(root().join("python")))
}

fn wheels() -> PathBuf {
    root().join("target/wheels")
}

fn pip(programs: &Path) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(programs.to_path_buf()).chain(std::env::split_paths(&path));
    let mut command = Command::new(programs.join("python"));
    command.args(["-m", "pip", "--disable-pip-version-check"]);
    if let Ok(path) = std::env::join_paths(paths) {
        command.env("PATH", path);
    }
    command
}

fn the_wheel(folder: &Path) -> Outcome<PathBuf> {
    let wheels: Vec<_> =
        fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    match &wheels[..] {
        [wheel] if wheel.to_string_lossy().contains("-cp311-abi3-") => Ok(wheel.clone()),
        _ => Err(format!(
            "{} holds {wheels:?}, not one wheel for every Python from 3.11 on",
            folder.display()
        )
        .into()),
    }
}
