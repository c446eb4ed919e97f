//! `cargo xtask test --target`: compiles tests for another processor or C library, and runs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::answers;
use crate::count::Count;
use crate::target_rust::{self, TargetRust};
use crate::{Outcome, cargo, root, run};

/// A processor whose programs QEMU runs on Linux, or a C library whose programs Linux runs itself.
pub(crate) struct Machine {
    name: &'static str,
    /// Rust's name for Linux on it.
    target: &'static str,
    /// The prefix of the names of its compilers and tools for object files.
    prefix: &'static str,
    has_cpp: bool,
    emulator: Option<&'static str>,
    /// The dynamic linker of its programs, as they name it.
    dynamic_linker: &'static str,
    /// The flags of rustc.
    flags: &'static str,
    /// Unit tests that `cargo xtask test` leaves out.
    slow: &'static [&'static str],
    /// Packages of Debian that hold everything, once its architecture is added.
    packages: &'static str,
}

const MACHINES: [Machine; 3] = [
    Machine {
        name: "aarch64",
        target: "aarch64-unknown-linux-gnu",
        prefix: "aarch64-linux-gnu-",
        has_cpp: true,
        emulator: Some("qemu-aarch64"),
        dynamic_linker: "/lib/ld-linux-aarch64.so.1",
        flags: "",
        slow: &[],
        packages: "rustc-web libstd-rust-web-dev:arm64 g++-aarch64-linux-gnu qemu-user",
    },
    // Big-endian.
    Machine {
        name: "s390x",
        target: "s390x-unknown-linux-gnu",
        prefix: "s390x-linux-gnu-",
        has_cpp: true,
        emulator: Some("qemu-s390x"),
        dynamic_linker: "/lib/ld64.so.1",
        flags: "",
        // They take minutes in QEMU. The copy engine has no code for this processor: its portable
        // Rust is tested on the others, too.
        slow: &["copy::", "hostile_jobs", "narrow_floats_have_the_digits"],
        packages: "rustc-web rust-web-src g++-s390x-linux-gnu qemu-user",
    },
    // Linked as distributions with musl link: with the shared C library. For the static one, std
    // asks for another unwinder and for start files that `musl-gcc` does not know.
    Machine {
        name: MUSL,
        target: "x86_64-unknown-linux-musl",
        prefix: "musl-",
        has_cpp: false,
        emulator: None,
        dynamic_linker: "/lib/ld-musl-x86_64.so.1",
        flags: "--codegen=target-feature=-crt-static",
        // The copy engine does not call the C library.
        slow: &["copy::"],
        packages: "rustc-web rust-web-src musl-tools libunwind-19-dev",
    },
];

const MUSL: &str = "musl";

/// Debian's GCC has no unwinder for musl; this one of LLVM's works with both C libraries.
const LLVM_UNWINDER: &str = "/usr/lib/llvm-19/lib/libunwind.a";

/// Tests of programs in C and C++ that are not run: QEMU does not run what the sanitizers link, and
/// the other tools are installed for this machine only.
const SKIPPED_PROGRAMS: [&str; 4] = ["sanitizer", "valgrind", "mdspan", "fake_driver"];

/// Tests of programs in C++.
const CPP_PROGRAMS: [&str; 4] = ["cpp", "plugins", "headers", "a_failing_check"];

/// Unit tests that QEMU does not run: it does not start a program for the machine from another one,
/// and does not tell the system which pages it may take.
const SKIPPED_IN_QEMU: [&str; 3] = [
    "a_child_works_without_the_lock_that_its_parent_held",
    "blocks_from_before_a_fork_are_not_used_again",
    "the_system_takes_reclaimable_pages_and_gives_new_ones",
];

/// Which of the tests for a machine are run.
#[derive(Clone, Copy, PartialEq)]
enum Selection {
    All,
    /// Those that are not slow.
    Fast,
}

/// Runs all tests for a machine.
pub(crate) fn on_target(name: &str) -> Outcome {
    let machine = machine(name)?;
    let rust = machine.rust()?;
    let mut count = Count::default();
    machine.test(&rust, Selection::All, &mut count)?;
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

/// Runs the tests for every machine whose tools are installed, without the slow ones, and says
/// which machines are skipped.
pub(crate) fn in_tests(count: &mut Count) -> Outcome {
    for machine in &MACHINES {
        match machine.rust() {
            Ok(rust) => machine.test(&rust, Selection::Fast, count)?,
            Err(missing) => eprintln!("\nskipped: tests on {}: {missing}", machine.name),
        }
    }
    Ok(())
}

impl Machine {
    /// A Rust compiler for the machine, if all tools are installed.
    fn rust(&self) -> Outcome<TargetRust> {
        self.check_tools()?;
        if self.name == MUSL && !Path::new(LLVM_UNWINDER).exists() {
            return Err(self.missing(LLVM_UNWINDER).into());
        }
        TargetRust::find(self.target).ok_or_else(|| {
            let std = format!("Rust compiler with std for {}, or with its source", self.target);
            self.missing(&std).into()
        })
    }

    /// Fails if a compiler or the emulator is missing.
    fn check_tools(&self) -> Outcome {
        let gcc = format!("{}gcc", self.prefix);
        let gpp = format!("{}g++", self.prefix);
        let tools = [Some(&*gcc), self.has_cpp.then_some(&*gpp), self.emulator];
        for tool in tools.into_iter().flatten() {
            if !answers(Command::new(tool).arg("--version")) {
                return Err(self.missing(tool).into());
            }
        }
        Ok(())
    }

    /// The prefix of the compilers' names, and a command that runs a program that they make, if
    /// both are installed.
    pub(crate) fn emulated(&self) -> Outcome<(&'static str, Command)> {
        self.check_tools()?;
        let emulator = self.emulator.ok_or("programs for it need no emulator")?;
        let mut emulator = Command::new(emulator);
        emulator.envs(self.library_prefix());
        Ok((self.prefix, emulator))
    }

    /// The Rust compiler that has the standard library for the machine.
    pub(crate) fn rust_compiler(&self) -> Outcome<PathBuf> {
        let library = || format!("Rust compiler with the standard library for {}", self.target);
        target_rust::with_std(self.target).ok_or_else(|| self.missing(&library()).into())
    }

    fn missing(&self, what: &str) -> String {
        format!("there is no {what}; Debian's packages are {}", self.packages)
    }

    /// A command of cargo that compiles the C library for the machine, in a folder of its own.
    fn cargo(&self, rust: &TargetRust, optimisation: &str, arguments: &[&str]) -> Command {
        let mut command = cargo(arguments);
        let variable = |name: &str| {
            let target = self.target.to_uppercase().replace('-', "_");
            format!("CARGO_TARGET_{target}_{name}")
        };
        command.args(["--target", self.target, "--package", "dlbridge-capi"]);
        rust.set(&mut command);
        let folder = self.library_folder();
        let flags = format!("--deny=warnings -Lnative={} {}", folder.display(), self.flags);
        command
            .env("CARGO_TARGET_DIR", self::folder())
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", optimisation)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env_remove("RUSTFLAGS")
            .env(variable("RUSTFLAGS"), flags.trim_end())
            .env(variable("LINKER"), format!("{}gcc", self.prefix))
            .envs(self.emulator.map(|emulator| (variable("RUNNER"), emulator)))
            .envs(self.library_prefix());
        command
    }

    /// Where cargo puts the C library, and where linkers look for libraries.
    fn library_folder(&self) -> PathBuf {
        folder().join(self.target).join("debug")
    }

    /// Where QEMU looks for the dynamic linker and libraries if they are not installed as those of
    /// a second architecture: in the cross compiler's folder.
    fn library_prefix(&self) -> Option<(&'static str, String)> {
        let prefix = format!("/usr/{}", self.prefix.trim_end_matches('-'));
        (!Path::new(self.dynamic_linker).exists()).then_some(("QEMU_LD_PREFIX", prefix))
    }

    /// Tests of the core crate and of the C library, and the programs that use the latter.
    fn test(&self, rust: &TargetRust, selection: Selection, count: &mut Count) -> Outcome {
        if self.name == MUSL {
            self.make_unwinder()?;
        }
        let slow = if selection == Selection::Fast { self.slow } else { &[] };
        // QEMU runs the tests of the copy engine for minutes if they are not optimised. Without
        // them, optimisation takes longer than it saves.
        let optimisation = if slow.is_empty() { "1" } else { "0" };
        let test = ["test", "--package", "dlbridge", "--lib"];
        let mut test = self.cargo(rust, optimisation, &test);
        test.args(["--features", "dlbridge/dlpark"]);
        for name in ["display", "dlpack", "dlpark", "ffi", "ndarray", "tensor"] {
            test.args(["--test", name]);
        }
        let in_qemu = self.emulator.map_or(&[][..], |_| &SKIPPED_IN_QEMU);
        test.arg("--").args(in_qemu.iter().chain(slow).flat_map(|name| ["--skip", name]));
        count.run(&mut test)?;

        run(&mut self.cargo(rust, "1", &["build"]))?;
        let mut programs =
            cargo(&["test", "--package", "dlbridge-capi", "--test", "suite", "programs::", "--"]);
        let cpp = if self.has_cpp { &[][..] } else { &CPP_PROGRAMS };
        programs.args(SKIPPED_PROGRAMS.iter().chain(cpp).flat_map(|name| ["--skip", name]));
        programs
            .env("DLBRIDGE_CROSS_PREFIX", self.prefix)
            .env("DLBRIDGE_CROSS_LIBRARY", self.library_folder())
            .envs(self.emulator.map(|emulator| ("DLBRIDGE_CROSS_EMULATOR", emulator)))
            .envs(self.library_prefix());
        count.run(&mut programs)
    }

    /// Copies LLVM's unwinder to the library folder under the name of GCC's, which std links. musl
    /// lacks a function that the unwinder calls to print before it aborts, so that it aborts at
    /// once.
    fn make_unwinder(&self) -> Outcome {
        let folder = self.library_folder();
        std::fs::create_dir_all(&folder)?;
        let mut copy = Command::new("objcopy");
        copy.args(["--redefine-sym", "__fprintf_chk=abort", LLVM_UNWINDER]);
        run(copy.arg(folder.join("libgcc_s.a")))
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
