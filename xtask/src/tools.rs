//! Tools that tests of the C library use, each in a folder of ours. If a tool cannot be installed,
//! the tests that need it say that they are skipped.

use std::path::PathBuf;
use std::process::Command;

use crate::{Outcome, cargo, root, run, setup};

/// Installs the tools that can be installed on this machine.
pub(crate) fn ready() {
    let cmake = setup::ensure_package(&setup::venv(None), "cmake==4.4.5").map(drop);
    for (tool, made) in [("CMake", cmake), ("cargo-c", cargo_c()), ("koffi for Node.js", koffi())] {
        if let Err(error) = made {
            eprintln!("\nskipped: {tool}: {error}");
        }
    }
}

/// Adds the folders of the tools to the search path of a command.
pub(crate) fn found_by(command: &mut Command) -> &mut Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(tools().join("bin")).chain(std::env::split_paths(&path));
    if let Ok(path) = std::env::join_paths(paths) {
        command.env("PATH", path);
    }
    command.env("NODE_PATH", node().join("node_modules"))
}

fn tools() -> PathBuf {
    root().join("target/tools")
}

fn node() -> PathBuf {
    root().join("target/node")
}

fn answers(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// `cargo cinstall`, from crates.io unless it is installed.
fn cargo_c() -> Outcome {
    if answers(found_by(&mut cargo(&["cinstall", "--version"]))) {
        return Ok(());
    }
    // Without optimisation it is built in a third of the time.
    let mut install =
        cargo(&["install", "cargo-c", "--version", "0.10.24+cargo-0.98.0", "--locked", "--debug"]);
    run(install.env("CARGO_PROFILE_DEV_DEBUG", "0").arg("--root").arg(tools()))
}

/// The npm package by which Node.js calls C.
fn koffi() -> Outcome {
    if answers(found_by(&mut Command::new("node")).args(["-e", "require('koffi')"])) {
        return Ok(());
    }
    std::fs::create_dir_all(node())?;
    let mut install = Command::new("npm");
    install.args(["install", "--silent", "--no-audit", "--no-fund", "koffi@3.3.4", "--prefix"]);
    run(install.arg(node()))
}
