//! The commands of dlbridge's README and CI. Rust only; Python serves to fetch libtorch.

mod bindings;
mod setup;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["bindings"] => bindings::run(false),
        ["bindgen-write"] => bindings::generate(false),
        ["bindgen-verify"] => bindings::generate(true),
        _ => Err("?".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// A call of the cargo that runs us, in the workspace.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Shows a command and runs it; fails as it fails.
fn run(command: &mut Command) -> Outcome {
    let shown: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    eprintln!("\n$ {}", shown.join(" "));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` ended with {status}", shown.join(" ")).into()),
        Err(error) => Err(format!("cannot run `{}`: {error}", shown[0]).into()),
    }
}
