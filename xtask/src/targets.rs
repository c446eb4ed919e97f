//! `cargo xtask targets`: compiles the packages for other systems and processors, without linking.

use std::process::{Command, Stdio};

use crate::command::{answers, text};
use crate::steps::timed;
use crate::target_rust::TargetRust;
use crate::{Outcome, cargo, cross, run, show};

/// Targets that `cargo xtask check` compiles for. Between them, they have every condition on the
/// target in this project that its other tests do not compile.
const IN_CHECK: [&str; 3] =
    ["x86_64-pc-windows-msvc", "aarch64-apple-darwin", "aarch64-unknown-linux-musl"];

/// Targets that only `cargo xtask targets` compiles for.
const OTHERS: [&str; 4] =
    ["x86_64-apple-darwin", WINDOWS_GNU, "x86_64-unknown-freebsd", "riscv64gc-unknown-linux-gnu"];

/// Its standard library is compiled with the help of a tool of MinGW.
const WINDOWS_GNU: &str = "x86_64-pc-windows-gnu";
const DLLTOOL: &str = "x86_64-w64-mingw32-dlltool";

/// Packages of Debian.
const DLLTOOL_PACKAGE: &str = "binutils-mingw-w64-x86-64";
const SOURCE_PACKAGES: &str = "rustc-web rust-web-src";

/// Targets that the build script of the core crate refuses.
const REFUSED: [&str; 2] = ["i686-unknown-linux-gnu", "wasm32-unknown-unknown"];

/// The error for these targets.
const REFUSAL: &str = "dlbridge needs a 64-bit target; addresses of this one have 32 bits";

/// Everything that needs no libtorch.
const FEATURES: &str =
    "dlbridge/cuda,dlbridge/ndarray,dlbridge/ndarray-0_16,dlbridge/safetensors,dlbridge/serde";

/// Compiles for every target.
pub(crate) fn check_all() -> Outcome {
    let Some(rust) = TargetRust::with_source() else { return Err(missing().into()) };
    let mut targets = [&IN_CHECK[..], &OTHERS].concat();
    if !answers(Command::new(DLLTOOL).arg("--version")) {
        eprintln!(
            "\nskipped: {WINDOWS_GNU}: there is no {DLLTOOL}; Debian's package is {DLLTOOL_PACKAGE}"
        );
        targets.retain(|&target| target != WINDOWS_GNU);
    }
    check(&rust, &targets)
}

/// Compiles for the targets that `cargo xtask check` compiles for, if a compiler for them is
/// installed.
pub(crate) fn in_check() -> Outcome {
    match TargetRust::with_source() {
        Some(rust) => check(&rust, &IN_CHECK),
        None => {
            eprintln!("\nskipped: other systems and processors: {}", missing());
            Ok(())
        }
    }
}

fn missing() -> String {
    format!(
        "there is no Rust compiler with the source of its standard library; Debian's packages are \
         {SOURCE_PACKAGES}, rustup's component is rust-src"
    )
}

/// Fails if a package cannot be compiled for one of the targets, if there is a warning, or if a
/// target that the build script refuses has another error.
fn check(rust: &TargetRust, targets: &[&str]) -> Outcome {
    run(&mut command(rust, targets))?;
    REFUSED.iter().try_for_each(|target| refused(&mut command(rust, &[target])))
}

/// The command of cargo that compiles the core crate, the C library and the Python module.
fn command(rust: &TargetRust, targets: &[&str]) -> Command {
    let packages = ["--package=dlbridge", "--package=dlbridge-capi", "--package=dlbridge-python"];
    let mut check = cargo(&["check", "--features", FEATURES]);
    check.args(packages).args(targets.iter().map(|target| format!("--target={target}")));
    rust.set(&mut check);
    check
        .env("CARGO_TARGET_DIR", cross::folder())
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        // musl has shared libraries only without this feature; it makes no difference elsewhere.
        .env("RUSTFLAGS", "--deny=warnings --codegen=target-feature=-crt-static")
        // The module needs no interpreter to compile: it uses the limited API.
        .env("PYO3_NO_PYTHON", "1");
    check
}

/// Fails unless a command ends with the error of the build script, and with no other.
fn refused(check: &mut Command) -> Outcome {
    show(check);
    let output = timed(text(check), || check.stderr(Stdio::piped()).output())?;
    let printed = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<_> = printed.lines().filter(|line| line.starts_with("error")).collect();
    match errors[..] {
        [error, "error: build script logged errors"] if error.ends_with(REFUSAL) => {
            eprintln!("{error}");
            Ok(())
        }
        _ => Err(format!(
            "`{}` does not end with this error alone: {REFUSAL}\n{printed}",
            text(check)
        )
        .into()),
    }
}
