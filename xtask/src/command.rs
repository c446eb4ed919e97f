//! Running commands in the workspace.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::steps::timed;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// A call of the cargo that runs this program, in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// The Rust files that git knows, relative to the workspace.
pub(crate) fn rust_files() -> Outcome<Vec<String>> {
    files(&["*.rs"])
}

/// The files that git knows and that match one of the patterns (or all files, if there is none),
/// relative to the workspace.
pub(crate) fn files(patterns: &[&str]) -> Outcome<Vec<String>> {
    let mut list = Command::new("git");
    let listed = list.arg("ls-files").args(patterns).current_dir(root()).output()?;
    succeeded(&list, Ok(listed.status))?;
    let listed = String::from_utf8(listed.stdout)?;
    // A file that was deleted and not committed is listed too.
    let exists = |file: &&str| root().join(file).is_file();
    Ok(listed.lines().filter(exists).map(str::to_owned).collect())
}

/// What a command prints; fails as it fails.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let output = command.stderr(Stdio::inherit()).output();
    let (status, printed) = match output {
        Ok(output) => (Ok(output.status), output.stdout),
        Err(error) => (Err(error), Vec::new()),
    };
    succeeded(command, status)?;
    Ok(String::from_utf8(printed)?)
}

/// Shows a command and runs it; fails as it fails.
pub(crate) fn run(command: &mut Command) -> Outcome {
    show(command);
    let status = timed(text(command), || command.status());
    succeeded(command, status)
}

/// Shows a command.
pub(crate) fn show(command: &Command) {
    eprintln!("\n$ {}", text(command));
}

/// The text of a command, for people.
pub(crate) fn text(command: &Command) -> String {
    let parts = std::iter::once(command.get_program()).chain(command.get_args());
    let text = parts.map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    // Paths in the workspace are shown relative to it.
    text.replace(&format!("{}/", root().display()), "")
}

/// Fails unless the command ended with success.
pub(crate) fn succeeded(command: &Command, status: std::io::Result<ExitStatus>) -> Outcome {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` ended with {status}", text(command)).into()),
        Err(error) => Err(format!("cannot run `{}`: {error}", text(command)).into()),
    }
}

/// Whether there is a nightly toolchain, of this package's `rust-version` or newer.
pub(crate) fn nightly_is_new_enough() -> bool {
    is_new_enough(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]))
}

/// Whether a command prints the version of a Rust compiler of this package's `rust-version` or
/// newer.
pub(crate) fn is_new_enough(version: &mut Command) -> bool {
    let output = version.output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let minor =
        |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    let found = text.split_whitespace().nth(1).and_then(minor);
    found.is_some() && found >= minor(env!("CARGO_PKG_RUST_VERSION"))
}

/// Whether a command can be run, and succeeds.
pub(crate) fn answers(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether this machine has a GPU of NVIDIA's.
pub(crate) fn has_gpu() -> bool {
    let listed = Command::new("nvidia-smi").arg("-L").output();
    listed.is_ok_and(|listed| listed.status.success() && listed.stdout.starts_with(b"GPU "))
}
