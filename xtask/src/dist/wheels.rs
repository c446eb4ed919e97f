//! The Python package: its source archive and its wheels, and tries of both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::platform::{GLIBC, PROCESSORS, Platform};
use super::report::{Report, file_name};
use super::stranger::{Folder, installer, stranger};
use super::{commit_time, third_party};
use crate::command::{answers, output};
use crate::environment::interpreter;
use crate::{Outcome, root, run, setup};

/// What a user does first, with NumPy.
const PROGRAM: &str = include_str!("../../templates/dist.py");

/// The versions of CPython that a wheel is tried with.
const PYTHONS: [&str; 4] = ["3.11", "3.12", "3.13", "3.14"];

/// The notices for what a wheel contains. maturin packs every file whose name begins so.
const NOTICES: &str = "python/LICENSE-THIRD-PARTY";

/// Files that a wheel must have.
const LICENSES: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "LICENSE-THIRD-PARTY"];

/// Makes everything in the folder `to`, and tries it.
pub(super) fn make(report: &mut Report, tools: &Path, to: &Path, tries: &Folder) {
    for processor in PROCESSORS {
        let name = format!("wheel for {processor}");
        let platform = match Platform::find(processor) {
            Ok(platform) => platform,
            Err(missing) => {
                report.skip(&name, &missing.to_string());
                continue;
            }
        };
        let Some(wheel) = report.make(&name, || wheel(&platform, tools, to)) else { continue };
        report.attempt("licences", || licenses(&wheel, tools));
        report.attempt("auditwheel", || audited(&wheel, tools));
        if processor != std::env::consts::ARCH {
            report.not_tried("CPython", "there is none for this processor");
            continue;
        }
        for version in PYTHONS {
            let what = format!("CPython {version}");
            if let Some(python) = interpreter(version) {
                report.attempt(&what, || installed(&wheel, &python, tries));
            } else {
                report.not_tried(&what, "it is neither on the search path nor in pyenv");
            }
        }
    }
    let Some(archive) = report.make("source archive", || source_archive(tools, to)) else { return };
    let python = PYTHONS.iter().find_map(|version| interpreter(version));
    match python {
        Some(python) => {
            report.attempt("pip builds and installs it", || built(&archive, &python, tries));
        }
        None => report.not_tried("pip", "there is no CPython from 3.11 on"),
    }
}

/// Makes the wheel for a platform.
fn wheel(platform: &Platform, tools: &Path, to: &Path) -> Outcome<PathBuf> {
    let target = platform.target();
    let tag = format!("manylinux_{}_{}", GLIBC.0, GLIBC.1);
    let mut build = maturin(tools, "build", to)?;
    build.args(["--zig", "--auditwheel", "check", "--compatibility", &tag, "--target", &target]);
    platform.compiling(&mut build, tools)?;
    with_notices(&target, || run(&mut build))?;
    made(to, |name| name.contains("-cp311-abi3-") && name.contains(platform.processor))
}

/// Makes the archive of the sources that pip builds where there is no wheel.
fn source_archive(tools: &Path, to: &Path) -> Outcome<PathBuf> {
    with_notices("all", || run(&mut maturin(tools, "sdist", to)?))?;
    made(to, |name| name.starts_with("dlbridge-") && name.ends_with(".tar.gz"))
}

fn maturin(tools: &Path, what: &str, to: &Path) -> Outcome<Command> {
    let mut command = Command::new(tools.join("bin/maturin"));
    command.current_dir(root()).args([what, "--manifest-path", "python/Cargo.toml", "--out"]);
    command.arg(to).env("SOURCE_DATE_EPOCH", commit_time()?);
    if what == "build" {
        command.arg("--locked");
    }
    Ok(command)
}

/// Calls a function while the notices for a target are where maturin packs them.
fn with_notices(target: &str, call: impl FnOnce() -> Outcome) -> Outcome {
    let notices = root().join(NOTICES);
    fs::write(&notices, third_party::notices("dlbridge-python", target)?)?;
    let called = call();
    fs::remove_file(&notices)?;
    called
}

/// The one file in a folder whose name is as it should be.
fn made(folder: &Path, is_it: impl Fn(&str) -> bool) -> Outcome<PathBuf> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let paths = entries.iter().map(std::fs::DirEntry::path);
    let mut found: Vec<_> = paths.filter(|path| is_it(&file_name(path))).collect();
    match (found.pop(), &found[..]) {
        (Some(one), []) => Ok(one),
        (one, others) => Err(format!("found {one:?} and {others:?}, not one file").into()),
    }
}

/// Fails unless a wheel has all licences.
fn licenses(wheel: &Path, tools: &Path) -> Outcome<String> {
    let mut list = Command::new(tools.join("bin/python"));
    let listed = output(list.args(["-m", "zipfile", "-l"]).arg(wheel))?;
    match LICENSES.iter().find(|name| !listed.contains(&format!("/licenses/{name} "))) {
        Some(missing) => Err(format!("{missing} is missing").into()),
        None => Ok(LICENSES.join(", ")),
    }
}

/// Fails unless auditwheel gives a wheel the tag that it has.
fn audited(wheel: &Path, tools: &Path) -> Outcome<String> {
    let mut show = Command::new(tools.join("bin/auditwheel"));
    let said = output(show.arg("show").arg(wheel))?.replace('\n', " ");
    let tag = tag(&said).ok_or_else(|| format!("no tag in: {said}"))?;
    if file_name(wheel).contains(tag) { Ok(tag.to_owned()) } else { Err(tag.into()) }
}

/// The tag that auditwheel finds.
fn tag(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("consistent with the following platform tag:")?;
    rest.split('"').nth(1)
}

/// Installs a wheel as pip chooses it from the folder, without a network, and tries it.
fn installed(wheel: &Path, python: &Path, tries: &Folder) -> Outcome<String> {
    let venv = environment(python, tries)?;
    let from = wheel.parent().unwrap_or(wheel);
    let mut install = pip(&venv);
    install.args(["--no-index", "--only-binary", ":all:", "--find-links"]).arg(from);
    run(install.arg(format!("dlbridge=={}", env!("CARGO_PKG_VERSION"))))?;
    works(&venv)
}

/// Lets pip build the source archive, and tries what it installed.
fn built(archive: &Path, python: &Path, tries: &Folder) -> Outcome<String> {
    let venv = environment(python, tries)?;
    run(pip(&venv).arg(archive))?;
    works(&venv)
}

/// A new environment with NumPy.
fn environment(python: &Path, tries: &Folder) -> Outcome<PathBuf> {
    let venv = tries.empty("python")?;
    run(installer(python, &venv).args(["-m", "venv", "."]))?;
    // Where a version of CPython is too old or too new for the preferred NumPy, any will do.
    if !answers(pip(&venv).arg(setup::NUMPY)) {
        run(pip(&venv).arg("numpy"))?;
    }
    Ok(venv)
}

fn pip(venv: &Path) -> Command {
    let mut install = installer(&venv.join("bin/python"), venv);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    install
}

/// Runs what a user runs first; returns the tries.
fn works(venv: &Path) -> Outcome<String> {
    let python = venv.join("bin/python");
    let said = output(stranger(&python, venv).args(["-m", "dlbridge"]))?;
    let version = env!("CARGO_PKG_VERSION");
    if !said.contains(version) {
        return Err(format!("`python -m dlbridge` does not say {version}:\n{said}").into());
    }
    run(stranger(&python, venv).args(["-c", PROGRAM]))?;
    Ok("python -m dlbridge, a program with NumPy".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_auditwheel_is_found() {
        let said = "a.whl is consistent with the following platform tag: \
                    \"manylinux_2_17_x86_64\".  The wheel references";
        assert_eq!(tag(said), Some("manylinux_2_17_x86_64"));
        assert_eq!(tag("This does not look like a platform wheel"), None);
    }
}
