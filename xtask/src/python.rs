//! The Python package: its wheel, the environments that it is installed in, its tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, JoinHandle};

use crate::command::has_gpu;
use crate::environment::{Environment, Found, NEWEST, OLDEST};
use crate::{Outcome, root, run, setup};

pub(crate) const MATURIN: &str = "maturin==1.16.0";
const RUFF: &str = "ruff==0.17.6";
const ABI3AUDIT: &str = "abi3audit==0.0.26";

/// The example of an extension module.
const EXTENSION: &str = "examples/extension";

/// Tests of the package that are also run through the example.
const HOSTILE_PRODUCERS: [&str; 5] =
    ["dlpack_structs", "misbehaving_producers", "torch_checks", "producer_errors", "lifetimes"];

/// Builds the wheel and installs it into our virtual environment, beside torch and NumPy; gives the
/// folder of its programs.
pub(crate) fn installed() -> Outcome<PathBuf> {
    let torch = format!("torch=={}", setup::TORCH);
    let venv = setup::ensure_packages(&setup::venv(None), &[&torch, setup::NUMPY])?;
    install(&venv, &built("python")?)
}

/// Builds the wheel of the package in a folder of the workspace.
fn built(package: &str) -> Outcome<PathBuf> {
    let programs = setup::ensure_package(&setup::venv(None), MATURIN)?.join("bin");
    let wheels = root().join("target/wheels").join(package);
    if wheels.exists() {
        fs::remove_dir_all(&wheels)?;
    }
    // As `pip install .` does, but with the maturin that is here.
    let mut build = pip(&programs);
    build
        .args(["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"])
        .arg(&wheels);
    run(build.arg(root().join(package)))?;
    the_wheel(&wheels)
}

/// Builds the wheel of a package, and checks that it keeps to what every Python from 3.11 on has.
fn audited(package: &str) -> Outcome<PathBuf> {
    let wheel = built(package)?;
    let audit = setup::ensure_package(&setup::venv(None), ABI3AUDIT)?.join("bin/abi3audit");
    let mut audit = Command::new(audit);
    run(audit.args(["--strict", "--summary", "--assume-minimum-abi3", "3.11"]).arg(&wheel))?;
    Ok(wheel)
}

/// Installs a wheel; gives the folder of the environment's programs.
fn install(venv: &Path, wheel: &Path) -> Outcome<PathBuf> {
    let programs = venv.join("bin");
    run(pip(&programs).args(["install", "--quiet", "--no-deps", "--force-reinstall"]).arg(wheel))?;
    Ok(programs)
}

/// The environments that the suite runs in, while they are made in the background.
pub(crate) struct Environments(JoinHandle<Result<Vec<&'static Environment>, String>>);

impl Environments {
    /// Begins to make the environments: of one version of CPython, or all.
    pub(crate) fn begin(version: Option<&str>) -> Outcome<Self> {
        let one = version.map(|version| {
            let known = Environment::for_version(version);
            known.ok_or_else(|| format!("no environment is of CPython {version}"))
        });
        let wanted = match one.transpose()? {
            Some(one) => vec![(one, version.map(str::to_owned))],
            None => vec![(&OLDEST, None), (&NEWEST, None)],
        };
        Ok(Self(thread::spawn(move || {
            let mut ready = Vec::new();
            for (environment, version) in wanted {
                let one = make(environment, version.as_deref());
                ready.extend(one.map_err(|error| error.to_string())?);
            }
            Ok(ready)
        })))
    }

    /// Waits until they are made; returns those that are not skipped.
    pub(crate) fn ready(self) -> Outcome<Vec<&'static Environment>> {
        Ok(self.0.join().map_err(|_| "the thread that makes environments panicked")??)
    }
}

/// Makes an environment, which must be of `version` if there is one. `None` if it is skipped,
/// because there is no interpreter for it.
fn make(
    environment: &'static Environment,
    version: Option<&str>,
) -> Outcome<Option<&'static Environment>> {
    match environment.find(version) {
        Found::Interpreter(interpreter) => {
            environment.ready(&interpreter)?;
            Ok(Some(environment))
        }
        Found::Missing(reason) if version.is_none() && environment.may_be_skipped() => {
            eprintln!("\nskipped: the Python suite with PyTorch {}: {reason}", environment.torch);
            Ok(None)
        }
        Found::Missing(reason) => Err(reason.into()),
    }
}

/// The tests to be run in each environment, all with the same wheels: those of the package, and
/// those of the example of an extension module.
pub(crate) fn tests(environments: &[&Environment]) -> Outcome<[Vec<Command>; 2]> {
    let (wheel, example) = (audited("python")?, audited(EXTENSION)?);
    let mut suites = [Vec::new(), Vec::new()];
    for environment in environments {
        let venv = environment.path();
        let pytest = install(&venv, &wheel)?.join("pytest");
        install(&venv, &example)?;
        let mut tests = command(&pytest);
        tests.args(["-rs", "python/tests"]);
        if !has_gpu() {
            tests.arg("--ignore=python/tests/gpu");
        }
        suites[0].push(tests);
        suites[1].push(extension_tests(&pytest));
    }
    Ok(suites)
}

/// The tests of the example of an extension module, and those of hostile producers, whose arrays go
/// through that module.
fn extension_tests(pytest: &Path) -> Command {
    let mut tests = command(pytest);
    tests.args(["-p", "through_extension", "-c", "python/pyproject.toml", "--rootdir", "."]);
    tests.arg(format!("{EXTENSION}/tests"));
    tests.args(HOSTILE_PRODUCERS.map(|name| format!("python/tests/test_{name}.py")));
    tests.env("PYTHONPATH", root().join("python/tests"));
    tests
}

/// An example in Python, to be run.
pub(crate) fn example(path: &str) -> Outcome<Command> {
    let mut example = command(&installed()?.join("python"));
    example.arg(path);
    Ok(example)
}

/// A program of one of our virtual environments, in the workspace.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).env_remove("LD_LIBRARY_PATH");
    cache_bytecode(&mut command);
    command
}

/// Lets Python write the bytecode of modules beside them, in folders of ours, even where the
/// environment forbids it. The tests start hundreds of interpreters, and each would spend two
/// seconds on compiling PyTorch's modules alone.
pub(crate) fn cache_bytecode(command: &mut Command) {
    command.env_remove("PYTHONDONTWRITEBYTECODE");
}

/// Fails on what ruff finds in the Python files.
pub(crate) fn lint() -> Outcome {
    ruff(&["check"])
}

/// Runs ruff over the Python files.
pub(crate) fn ruff(arguments: &[&str]) -> Outcome {
    let ruff = setup::ensure_packages(&setup::venv(None), &[RUFF])?.join("bin/ruff");
    let mut ruff = Command::new(ruff);
    ruff.args(arguments).args([
        ".",
        "../benches/python",
        "../examples/extension/tests",
        "../examples/neighbours",
        "../xtask/templates",
    ]);
    run(ruff.current_dir(root().join("python")))
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
