//! `cargo xtask format`: rustfmt, clang-format and ruff, over every file that is written by hand.

use std::process::Command;

use crate::{Outcome, cargo, python, root, run, setup, succeeded};

/// Versions differ in what they write.
const CLANG_FORMAT: &str = "clang-format==21.1.2";

/// C and C++ files whose format is not ours: cbindgen writes the first one, and the second one
/// follows upstream's.
const OTHERS_FORMAT: [&str; 2] = ["include/dlbridge.h", "include/dlpack/dlpack.h"];

/// Formats the files.
pub(crate) fn write() -> Outcome {
    run(&mut cargo(&["fmt", "--all"]))?;
    clang_format(&["-i"])?;
    python::ruff(&["format"])
}

/// Fails if a file is not formatted.
pub(crate) fn check() -> Outcome {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    clang_format(&["--dry-run", "--Werror"])?;
    python::ruff(&["format", "--check"])
}

/// Runs clang-format over the C, C++ and CUDA files that git knows.
fn clang_format(arguments: &[&str]) -> Outcome {
    let mut list = Command::new("git");
    list.args(["ls-files", "*.c", "*.h", "*.cpp", "*.hpp", "*.cu"]);
    let listed = list.current_dir(root()).output()?;
    succeeded(&list, Ok(listed.status))?;
    let files = String::from_utf8(listed.stdout)?;
    let files =
        files.lines().filter(|file| !OTHERS_FORMAT.contains(file) && root().join(file).is_file());
    let program = setup::ensure_package(&setup::venv(None), CLANG_FORMAT)?.join("bin/clang-format");
    run(Command::new(program).current_dir(root()).args(arguments).args(files))
}
