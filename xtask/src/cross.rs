//! `cargo xtask test --target`: compiles tests for another processor, and runs them in QEMU.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{answers, is_new_enough};
use crate::count::Count;
use crate::{Outcome, cargo, root, run};

/// A processor whose programs QEMU runs on Linux.
pub(crate) struct Machine {
    name: &'static str,
    /// Rust's name for Linux on it.
    target: &'static str,
    /// The prefix of the names of its compilers and tools for object files.
    prefix: &'static str,
    emulator: &'static str,
    /// The dynamic linker of its programs, as they name it.
    dynamic_linker: &'static str,
    /// Packages of Debian that hold everything, once its architecture is added.
    packages: &'static str,
}

const MACHINES: [Machine; 1] = [Machine {
    name: "aarch64",
    target: "aarch64-unknown-linux-gnu",
    prefix: "aarch64-linux-gnu-",
    emulator: "qemu-aarch64",
    dynamic_linker: "/lib/ld-linux-aarch64.so.1",
    packages: "rustc-web libstd-rust-web-dev:arm64 g++-aarch64-linux-gnu qemu-user",
}];

/// Tests of programs in C and C++ that are not run: QEMU does not run what the sanitizers link, and
/// the other tools are installed for this machine only.
const SKIPPED_PROGRAMS: [&str; 4] = ["sanitizer", "valgrind", "mdspan", "fake_driver"];

/// Unit tests that are not run: QEMU does not start a program for the machine from another one, and
/// does not tell the system which pages it may take.
const SKIPPED_UNIT_TESTS: [&str; 3] = [
    "a_child_works_without_the_lock_that_its_parent_held",
    "blocks_from_before_a_fork_are_not_used_again",
    "the_system_takes_reclaimable_pages_and_gives_new_ones",
];

/// Runs the tests for a machine.
pub(crate) fn on_target(name: &str) -> Outcome {
    let machine = machine(name)?;
    let compiler = machine.compiler()?;
    let mut count = Count::default();
    machine.test(&compiler, &mut count)?;
    count.close()
}

/// The machine with a name.
pub(crate) fn machine(name: &str) -> Outcome<&'static Machine> {
    let found = MACHINES.iter().find(|machine| machine.name == name);
    found.ok_or_else(|| {
        let names = MACHINES.map(|machine| machine.name).join(", ");
        format!("there is no target {name}, only {names}").into()
    })
}

/// Runs the tests for every machine whose tools are installed, and says which are skipped.
pub(crate) fn in_tests(count: &mut Count) -> Outcome {
    for machine in &MACHINES {
        match machine.compiler() {
            Ok(compiler) => machine.test(&compiler, count)?,
            Err(missing) => eprintln!("\nskipped: tests on {}: {missing}", machine.name),
        }
    }
    Ok(())
}

impl Machine {
    /// The Rust compiler that has the standard library for the machine, if all tools are installed.
    fn compiler(&self) -> Outcome<PathBuf> {
        self.emulated()?;
        self.rust_compiler()
    }

    /// The prefix of the compilers' names, and a command that runs a program that they make, if
    /// both are installed.
    pub(crate) fn emulated(&self) -> Outcome<(&'static str, Command)> {
        let gcc = format!("{}gcc", self.prefix);
        let gpp = format!("{}g++", self.prefix);
        for tool in [&*gcc, &*gpp, self.emulator] {
            if !answers(Command::new(tool).arg("--version")) {
                return Err(self.missing(tool).into());
            }
        }
        let mut emulator = Command::new(self.emulator);
        emulator.envs(self.library_prefix());
        Ok((self.prefix, emulator))
    }

    /// The Rust compiler that has the standard library for the machine.
    pub(crate) fn rust_compiler(&self) -> Outcome<PathBuf> {
        // rustup's or a distribution's.
        let compilers = ["rustc", "/usr/bin/rustc"].map(PathBuf::from);
        let compiler = compilers.into_iter().find(|compiler| self.is_target_of(compiler));
        let library = format!("a Rust compiler with the standard library for {}", self.target);
        compiler.ok_or_else(|| self.missing(&library).into())
    }

    fn missing(&self, what: &str) -> String {
        format!("there is no {what}; Debian's packages are {}", self.packages)
    }

    /// Whether a compiler is new enough, and has the standard library for the machine.
    fn is_target_of(&self, compiler: &Path) -> bool {
        let mut ask = Command::new(compiler);
        ask.args(["--print", "target-libdir", "--target", self.target]);
        let printed = ask.output().map(|output| output.stdout).unwrap_or_default();
        let folder = String::from_utf8_lossy(&printed).trim().to_owned();
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let is_std = |name: &str| name.starts_with("libstd-") && name.ends_with(".rlib");
        files.into_iter().any(|file| file.file_name().to_str().is_some_and(is_std))
            && is_new_enough(Command::new(compiler).arg("--version"))
    }

    /// A command of cargo that compiles the C library for the machine, in a folder of its own.
    fn cargo(&self, compiler: &Path, arguments: &[&str]) -> Command {
        let mut command = cargo(arguments);
        let variable = |name: &str| {
            let target = self.target.to_uppercase().replace('-', "_");
            format!("CARGO_TARGET_{target}_{name}")
        };
        command
            .args(["--target", self.target, "--package", "dlbridge-capi"])
            .env("RUSTC", compiler)
            .env("CARGO_TARGET_DIR", folder())
            // QEMU runs the tests of the copy engine for minutes if they are not optimised.
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
            .env(variable("LINKER"), format!("{}gcc", self.prefix))
            .env(variable("RUNNER"), self.emulator)
            .envs(self.library_prefix());
        command
    }

    /// Where QEMU looks for the dynamic linker and libraries if they are not installed as those of
    /// a second architecture: in the cross compiler's folder.
    fn library_prefix(&self) -> Option<(&'static str, String)> {
        let prefix = format!("/usr/{}", self.prefix.trim_end_matches('-'));
        (!Path::new(self.dynamic_linker).exists()).then_some(("QEMU_LD_PREFIX", prefix))
    }

    /// Tests of the core crate and of the C library, and the programs that use the latter.
    fn test(&self, compiler: &Path, count: &mut Count) -> Outcome {
        let mut test = self.cargo(compiler, &["test", "--package", "dlbridge", "--lib"]);
        for name in ["dlpack", "ffi", "ndarray", "tensor"] {
            test.args(["--test", name]);
        }
        test.arg("--");
        for name in SKIPPED_UNIT_TESTS {
            test.args(["--skip", name]);
        }
        count.run(&mut test)?;
        run(&mut self.cargo(compiler, &["build"]))?;
        let mut programs =
            cargo(&["test", "--package", "dlbridge-capi", "--test", "suite", "programs::", "--"]);
        for name in SKIPPED_PROGRAMS {
            programs.args(["--skip", name]);
        }
        programs
            .env("DLBRIDGE_CROSS_PREFIX", self.prefix)
            .env("DLBRIDGE_CROSS_EMULATOR", self.emulator)
            .env("DLBRIDGE_CROSS_LIBRARY", folder().join(self.target).join("debug"))
            .envs(self.library_prefix());
        count.run(&mut programs)
    }
}

/// The folder of what is compiled for other machines.
pub(crate) fn folder() -> PathBuf {
    root().join("target/cross")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ci_and_the_guide_install_the_packages_of_every_machine() {
        for file in [".ci/run", "CONTRIBUTING.md"] {
            let text = std::fs::read_to_string(root().join(file)).expect("the file");
            for machine in &MACHINES {
                assert!(text.contains(machine.packages), "{file}: {}", machine.packages);
            }
        }
    }
}
