//! `cargo xtask setup`: installs libtorch (PyPI's torch wheel) into a virtual environment.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, root, run};

/// The newest libtorch that the Rust code supports: tch has none for later ones.
pub(crate) const TORCH: &str = "2.13.0";
/// The oldest NumPy that the Python suite runs with.
pub(crate) const NUMPY: &str = "numpy==2.4.6";

const UV: &str = "uv==0.13.9";

/// Where the virtual environment of a libtorch version lives; `None` is the newest.
pub(crate) fn venv(version: Option<&str>) -> PathBuf {
    root().join(named(".venv", version))
}

/// Where libtorch of a version is linked to.
pub(crate) fn libtorch(version: Option<&str>) -> PathBuf {
    root().join(named(".libtorch", version))
}

fn named(name: &str, version: Option<&str>) -> String {
    version.map_or_else(|| name.to_owned(), |version| format!("{name}-{version}"))
}

/// Makes libtorch ready, unless the user brings one, and says where it is linked to. Safe to repeat
/// and to interrupt: the link that the build looks for is made last.
pub(crate) fn libtorch_ready(version: Option<&str>) -> Outcome<PathBuf> {
    let link = libtorch(version);
    if version.is_none()
        && let Some(given) = given()
    {
        eprintln!("libtorch: {given}");
        return Ok(link);
    }
    let wanted = version.map_or_else(|| TORCH.to_owned(), |version| format!("{version}.0"));
    if installed(&link).as_deref() == Some(&wanted) {
        eprintln!("libtorch {wanted}: {}", link.display());
        return Ok(link);
    }
    eprintln!(
        "libtorch {wanted} comes with PyPI's torch wheel: about 2 GB to fetch, 5 GB on disk."
    );
    let venv = venv(version);
    ensure_packages(&venv, &[&format!("torch=={wanted}"), NUMPY])?;
    let folder = site_packages(&venv)?.join("torch");
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink(folder.strip_prefix(root())?, &link)?;
    match installed(&link) {
        Some(found) if found == wanted => Ok(link),
        found => Err(format!("{} holds libtorch {found:?}, not {wanted}", link.display()).into()),
    }
}

/// The folder of the libtorch that is ready.
pub(crate) fn libtorch_folder() -> Outcome<PathBuf> {
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        let output = Command::new("python3")
            .args(["-c", "import torch; print(torch.__path__[0])"])
            .output()?;
        return Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()));
    }
    Ok(env::var_os("LIBTORCH").map_or_else(|| libtorch(None), PathBuf::from))
}

/// A libtorch that the user brings. Cargo sets `LIBTORCH` to our own link when it is not set.
fn given() -> Option<String> {
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return Some("from the active Python (LIBTORCH_USE_PYTORCH)".to_owned());
    }
    let given = PathBuf::from(env::var_os("LIBTORCH")?);
    (given != libtorch(None)).then(|| format!("{} (LIBTORCH)", given.display()))
}

/// The version of the libtorch in a folder, if it is whole.
pub(crate) fn installed(folder: &Path) -> Option<String> {
    let header = folder.join("include/torch/headeronly/version.h");
    let text = fs::read_to_string(header).ok()?;
    let part = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("#define {name} ")))?;
        line.split_whitespace().nth(2).map(str::to_owned)
    };
    let version =
        [part("TORCH_VERSION_MAJOR")?, part("TORCH_VERSION_MINOR")?, part("TORCH_VERSION_PATCH")?];
    folder.join("lib/libtorch_cpu.so").exists().then(|| version.join("."))
}

/// Makes the virtual environment if need be and installs a package; gives the environment back.
pub(crate) fn ensure_package(venv: &Path, requirement: &str) -> Outcome<PathBuf> {
    ensure_packages(venv, &[requirement])
}

/// Makes the virtual environment if need be and installs what it lacks; gives the environment back.
pub(crate) fn ensure_packages(venv: &Path, requirements: &[&str]) -> Outcome<PathBuf> {
    ensure_venv(venv, find_python)?;
    let missing = missing(venv, requirements)?;
    if !missing.is_empty() {
        install(venv, &missing)?;
    }
    Ok(venv.to_path_buf())
}

/// Makes the virtual environment if it does not work, with the interpreter that `find` returns.
pub(crate) fn ensure_venv(venv: &Path, find: impl FnOnce() -> Outcome<PathBuf>) -> Outcome {
    let works = Command::new(venv.join("bin/python")).args(["-m", "pip", "--version"]).output();
    if works.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    run(Command::new(find()?).args(["-m", "venv", "--clear"]).arg(venv))
}

/// The requirements that a virtual environment does not meet.
fn missing<'a>(venv: &Path, requirements: &[&'a str]) -> Outcome<Vec<&'a str>> {
    let python = venv.join("bin/python");
    let listed = Command::new(&python).args(["-m", "pip", "freeze", "--all"]).output()?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let have = |requirement: &&str| {
        let (name, version) = requirement.split_once("==").unwrap_or((requirement, ""));
        let name = name.split('[').next().unwrap_or(name);
        listed
            .lines()
            .filter_map(|line| line.split_once("=="))
            .any(|(n, v)| n == name && (version.is_empty() || v.split('+').next() == Some(version)))
    };
    Ok(requirements.iter().copied().filter(|requirement| !have(requirement)).collect())
}

/// Installs packages with uv, which takes a third of pip's time, or with pip if uv fails.
fn install(venv: &Path, packages: &[&str]) -> Outcome {
    let pip = |packages: &[&str]| {
        let mut install = Command::new(venv.join("bin/python"));
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        install.args(packages);
        install
    };
    let uv = venv.join("bin/uv");
    if !uv.exists() {
        run(&mut pip(&[UV]))?;
    }
    let mut install = Command::new(uv);
    install.args(["pip", "install", "--quiet", "--python"]).arg(venv.join("bin/python"));
    if run(install.args(packages)).is_ok() {
        return Ok(());
    }
    // For example, pip's configuration names an index that uv does not know.
    run(&mut pip(packages))
}

/// A Python that the wheels support.
pub(crate) fn find_python() -> Outcome<PathBuf> {
    let check = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";
    ["python3.11", "python3", "python3.12", "python3.13", "python3.14", "python"]
        .into_iter()
        .find(|name| {
            let output = Command::new(name).args(["-c", check]).output();
            output.is_ok_and(|output| output.status.success())
        })
        .map(PathBuf::from)
        .ok_or_else(|| "Python 3.11 or newer with its venv and ensurepip modules (Debian: python3-venv) is needed to fetch libtorch".into())
}

/// The folder of installed packages.
pub(crate) fn site_packages(venv: &Path) -> Outcome<PathBuf> {
    let entries = fs::read_dir(venv.join("lib"))?.filter_map(Result::ok);
    entries
        .map(|entry| entry.path().join("site-packages"))
        .find(|path| path.is_dir())
        .ok_or_else(|| format!("no site-packages in {}", venv.display()).into())
}
