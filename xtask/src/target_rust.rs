//! Rust compilers for other targets: those that have the target's standard library, and those that
//! have its source, from which cargo compiles it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::is_new_enough;

/// rustup's or a distribution's.
const COMPILERS: [&str; 2] = ["rustc", "/usr/bin/rustc"];

/// A Rust compiler for a target.
pub(crate) struct TargetRust {
    rustc: PathBuf,
    /// Whether cargo compiles the standard library first.
    compiles_std: bool,
}

impl TargetRust {
    /// A compiler that has the target's standard library, or else one that has its source.
    pub(crate) fn find(target: &str) -> Option<Self> {
        let ready = with_std(target).map(|rustc| Self { rustc, compiles_std: false });
        ready.or_else(Self::with_source)
    }

    /// A compiler that has the source of its standard library.
    pub(crate) fn with_source() -> Option<Self> {
        let rustc = find(|compiler| {
            let sysroot = printed(Command::new(compiler).args(["--print", "sysroot"]));
            let library = Path::new(&sysroot).join("lib/rustlib/src/rust/library");
            library.join("Cargo.lock").is_file()
        })?;
        Some(Self { rustc, compiles_std: true })
    }

    /// Makes a command of cargo use the compiler. The standard library has no backtraces if cargo
    /// compiles it, because what they need takes long to compile.
    pub(crate) fn set(&self, command: &mut Command) {
        command.env("RUSTC", &self.rustc);
        if self.compiles_std {
            command
                .args(["-Zbuild-std=std,panic_unwind,test", "-Zbuild-std-features=panic-unwind"])
                // These options of cargo are unstable.
                .env("RUSTC_BOOTSTRAP", "1");
        }
    }
}

/// A compiler that has the standard library for a target.
pub(crate) fn with_std(target: &str) -> Option<PathBuf> {
    find(|compiler| {
        let ask = ["--print", "target-libdir", "--target", target];
        let folder = printed(Command::new(compiler).args(ask));
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let is_std = |name: &str| name.starts_with("libstd-") && name.ends_with(".rlib");
        files.into_iter().any(|file| file.file_name().to_str().is_some_and(is_std))
    })
}

/// A compiler that is new enough, and for which `is_wanted` returns true.
fn find(is_wanted: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut compilers = COMPILERS.iter().map(PathBuf::from);
    compilers.find(|compiler| {
        is_wanted(compiler) && is_new_enough(Command::new(compiler).arg("--version"))
    })
}

/// What a command prints; nothing if it cannot be run.
fn printed(command: &mut Command) -> String {
    let printed = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&printed).trim().to_owned()
}
