//! `cargo xtask miri`: tests under Miri, which finds undefined behaviour in Rust code.
//!
//! Miri runs no C code and has few functions of the system. So the selection has no libtorch, no
//! CUDA, no memory maps and no processes. Under `cfg(miri)` the copy engine has no vector
//! instructions, and tests that ask for more memory than there is are left out.

use std::process::Command;

use crate::{Outcome, root, run};

/// Tests of the core crate that need nothing from the system.
const TESTS: [&str; 4] = ["access", "ndarray", "question_mark", "views"];

/// Unit tests that would take hours: they compare each kernel of the copy engine with a loop, in
/// many layouts. The tests of [`TESTS`] copy, too.
const SKIPPED: &str = "copy::tests::";

/// Runs the tests. Needs a nightly toolchain with the components `miri` and `rust-src`.
pub(crate) fn run_tests() -> Outcome {
    let mut test = Command::new("rustup");
    test.args(["run", "nightly", "cargo", "miri", "test", "--no-default-features"]);
    test.args(["--features", "ndarray", "--lib"]);
    test.args(TESTS.iter().flat_map(|name| ["--test", name]));
    // The tests of properties look for a file of failures.
    let flags = std::env::var("MIRIFLAGS").unwrap_or("-Zmiri-disable-isolation".to_owned());
    test.env("MIRIFLAGS", flags).env("CARGO_TARGET_DIR", root().join("target/miri"));
    test.env_remove("CARGO").current_dir(root());
    run(test.args(["--", "--skip", SKIPPED]))
}
