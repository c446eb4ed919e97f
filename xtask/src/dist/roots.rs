//! Tries of what is in `target/dist` in the root folder of another system, which has a C compiler,
//! or Python, and no Rust.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archives::PRINTED;
use super::report::{Report, file_name};
use crate::command::{answers, output};
use crate::{Outcome, root};

/// Builds the example of an archive; prints the versions, and what the example prints.
const ARCHIVE: &str = include_str!("../../templates/root-archive.sh");

/// Installs a wheel, and calls it; prints the version of CPython.
const WHEEL: &str = include_str!("../../templates/root-wheel.sh");

/// Whether a wheel can be installed.
const HAS_PYTHON: &str = "python3 -c 'import sys, ensurepip; assert sys.version_info >= (3, 11)'";

/// Tries the archive and the wheel for this processor in the folder `system`, and prints a table.
pub(crate) fn run(system: &str) -> Outcome {
    let system = fs::canonicalize(system)?;
    let mut report = Report::new();
    let archive = made(&format!("-linux-{ARCH}.tar.gz"))?;
    report.found(&archive);
    report.attempt("in the root", || archived(&archive, &system));
    let wheel = made(&format!("_{ARCH}.whl"))?;
    report.found(&wheel);
    if answers(&mut shell(&system, "/", HAS_PYTHON)) {
        report.attempt("in the root", || installed(&wheel, &system));
    } else {
        report.not_tried("in the root", "it has no CPython 3.11 or newer with venv and ensurepip");
    }
    println!("\n{}", report.table());
    report.close()
}

/// The file in `target/dist` whose name has this end.
fn made(end: &str) -> Outcome<PathBuf> {
    let folder = root().join("target/dist");
    let entries = fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut paths = entries.iter().map(std::fs::DirEntry::path);
    let found = paths.find(|path| file_name(path).ends_with(end));
    found.ok_or_else(|| format!("no …{end} in {}: run `cargo xtask dist`", folder.display()).into())
}

fn archived(archive: &Path, system: &Path) -> Outcome<String> {
    let printed = in_root(ARCHIVE, archive, system)?;
    match printed.split_once('\n') {
        // The program with the shared library, and the one with the static library.
        Some((versions, rest)) if rest.matches(PRINTED).count() == 2 => Ok(versions.to_owned()),
        _ => Err(format!("the examples printed:\n{printed}").into()),
    }
}

fn installed(wheel: &Path, system: &Path) -> Outcome<String> {
    Ok(in_root(WHEEL, wheel, system)?.trim().to_owned())
}

/// What a script prints that runs beside a copy of `file`, in an empty folder of the root.
fn in_root(script: &str, file: &Path, system: &Path) -> Outcome<String> {
    const FOLDER: &str = "/tmp/dlbridge-try";
    let folder = system.join(FOLDER.trim_start_matches('/'));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    fs::copy(file, folder.join(file_name(file)))?;
    let printed = output(&mut shell(system, FOLDER, script))?;
    fs::remove_dir_all(&folder)?;
    Ok(printed)
}

/// A shell in the root of a system, without variables of this process.
fn shell(system: &Path, folder: &str, script: &str) -> Command {
    let mut shell = Command::new("chroot");
    shell.arg(system).args([
        "/usr/bin/env",
        "-i",
        "HOME=/tmp",
        "PATH=/usr/local/bin:/usr/bin:/bin",
    ]);
    shell.args(["sh", "-c", &format!("cd {folder}\n{script}")]);
    shell
}
