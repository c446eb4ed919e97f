//! Tools that the tests of the C library and the site use, each in a folder of ours. If a tool
//! cannot be installed, the tests that need it say that they are skipped.

use std::path::PathBuf;
use std::process::Command;
use std::thread::{self, JoinHandle};

use crate::{Outcome, cargo, root, run, setup};

pub(crate) const CMAKE: &str = "cmake==4.4.5";
const MDBOOK: &str = "0.5.4";

/// The tools, while they are installed in the background: cargo-c takes minutes, and tests leave
/// cores idle meanwhile.
pub(crate) struct Tools(JoinHandle<[(&'static str, Result<(), String>); 2]>);

impl Tools {
    /// Begins to install the tools that can be installed on this machine.
    pub(crate) fn begin() -> Self {
        let made = |made: Outcome| made.map_err(|error| error.to_string());
        Self(thread::spawn(move || {
            [("cargo-c", made(cargo_c())), ("koffi for Node.js", made(koffi()))]
        }))
    }

    /// Waits until they are installed, and says which are not.
    pub(crate) fn ready(self) -> Outcome {
        // Not in the background, where the environment that it is installed in is made.
        let cmake = setup::ensure_package(&setup::venv(None), CMAKE);
        let cmake = cmake.map(drop).map_err(|error| error.to_string());
        let others = self.0.join().map_err(|_| "the thread that installs tools panicked")?;
        for (tool, made) in others.into_iter().chain([("CMake", cmake)]) {
            if let Err(error) = made {
                eprintln!("\nskipped: {tool}: {error}");
            }
        }
        Ok(())
    }
}

/// Adds the folders of the tools to the search path of a command.
pub(crate) fn found_by(command: &mut Command) -> &mut Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(folder().join("bin")).chain(std::env::split_paths(&path));
    if let Ok(path) = std::env::join_paths(paths) {
        command.env("PATH", path);
    }
    command.env("NODE_PATH", node().join("node_modules"))
}

/// The folder of the tools.
pub(crate) fn folder() -> PathBuf {
    root().join("target/tools")
}

fn node() -> PathBuf {
    root().join("target/node")
}

fn answers(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// `cargo cinstall`, from crates.io unless it is installed.
pub(crate) fn cargo_c() -> Outcome {
    if answers(found_by(&mut cargo(&["cinstall", "--version"]))) {
        return Ok(());
    }
    // Without optimisation it is built in a third of the time.
    let mut install =
        cargo(&["install", "cargo-c", "--version", "0.10.24+cargo-0.98.0", "--locked", "--debug"]);
    run(install.env("CARGO_PROFILE_DEV_DEBUG", "0").arg("--root").arg(folder()))
}

/// The program that makes a book of Markdown files, from crates.io unless it is there.
pub(crate) fn mdbook() -> Outcome<PathBuf> {
    let program = folder().join("bin/mdbook");
    let version = Command::new(&program).arg("--version").output();
    let wanted = format!("v{MDBOOK}");
    if version.is_ok_and(|version| String::from_utf8_lossy(&version.stdout).contains(&wanted)) {
        return Ok(program);
    }
    // Without optimisation it is built in less time, and still makes the book in seconds. Without
    // the default features it has no server.
    let mut install = cargo(&["install", "mdbook", "--version", MDBOOK, "--locked", "--debug"]);
    install.args(["--no-default-features", "--features", "search", "--force"]);
    run(install.env("CARGO_PROFILE_DEV_DEBUG", "0").arg("--root").arg(folder()))?;
    Ok(program)
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
