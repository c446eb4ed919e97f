//! `cargo xtask check`: format, layers, lints, documentation, generated files.

use std::process::Command;

use crate::{Outcome, bindings, cargo, layers, python, root, run, setup, shape, succeeded};

/// Versions differ in what they write.
const CLANG_FORMAT: &str = "clang-format==21.1.2";

/// Fails at the first thing that is not as it should be.
pub(crate) fn everything() -> Outcome {
    setup::libtorch_ready(None)?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    clang_format()?;
    layers::check()?;
    shape::check()?;
    for selection in [
        &["--no-default-features"][..],
        &[],
        &["--features", "cuda"],
        &["--features", "torch"],
        &["--features", "cuda,torch"],
        &["--package", "dlbridge-capi"],
        &["--package", "dlbridge-capi", "--no-default-features"],
        &["--package", "dlbridge-benches"],
        &["--package", "dlbridge-python"],
        &["--package", "dlbridge-standin"],
        &["--package", "xtask"],
    ] {
        let mut clippy = cargo(&["clippy", "--all-targets"]);
        run(clippy.args(selection).args(["--", "--deny", "warnings"]))?;
    }
    // `doc-only` is how docs.rs builds: no libtorch.
    for features in ["ndarray", "doc-only,cuda"] {
        let mut doc = cargo(&["doc", "--no-deps", "--features", features]);
        run(doc.env("RUSTDOCFLAGS", "--deny warnings"))?;
    }
    python::check()?;
    bindings::run(true)
}

/// C and C++ files whose format is not ours: cbindgen writes the first one, and the second one follows
/// upstream's.
const OTHERS_FORMAT: [&str; 2] = ["include/dlbridge.h", "include/dlpack/dlpack.h"];

/// Fails unless the C, C++ and CUDA files have the format that `.clang-format` describes.
fn clang_format() -> Outcome {
    let mut list = Command::new("git");
    list.args(["ls-files", "*.c", "*.h", "*.cpp", "*.hpp", "*.cu"]);
    let listed = list.current_dir(root()).output()?;
    succeeded(&list, Ok(listed.status))?;
    let files = String::from_utf8(listed.stdout)?;
    let files =
        files.lines().filter(|file| !OTHERS_FORMAT.contains(file) && root().join(file).is_file());
    let program = setup::ensure_package(&setup::venv(None), CLANG_FORMAT)?.join("bin/clang-format");
    let mut format = Command::new(program);
    run(format.current_dir(root()).args(["--dry-run", "--Werror"]).args(files))
}
