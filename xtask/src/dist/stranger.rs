//! The environment of a user who has only what was made: a folder outside of the workspace, and
//! none of its variables.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// A folder outside the workspace, so that no configuration of cargo and no `Cargo.toml` above it
/// counts. Removed when it is dropped, unless a try failed.
pub(super) struct Folder {
    path: PathBuf,
    pub(super) keep: bool,
}

impl Folder {
    pub(super) fn new() -> Outcome<Self> {
        let path = env::temp_dir().join(format!("dlbridge-dist-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self { path, keep: false })
    }

    /// An empty folder in it.
    pub(super) fn empty(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.path.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("the folders of the tries are in {}", self.path.display());
        } else {
            // Fails only for a folder in the system's folder of temporary files.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A command of a user who has the system's programs only, and no variables but `HOME`.
pub(super) fn stranger(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin");
    command.envs(env::var_os("HOME").map(|home| ("HOME", home)));
    command
}

/// A command of a user who has Rust, and whose pip and cargo may use the network. It has the
/// variables of this process without those that cargo and this workspace set.
pub(super) fn installer(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder);
    for (name, _) in env::vars_os() {
        if name.to_str().is_none_or(is_ours) {
            command.env_remove(name);
        }
    }
    command
}

/// Whether a variable may come from cargo, from this workspace or from an environment of Python.
fn is_ours(name: &str) -> bool {
    let begins = ["CARGO", "LIBTORCH", "LD_LIBRARY_PATH", "PYTHON", "VIRTUAL_ENV", "DLBRIDGE"];
    name != "CARGO_HOME" && begins.iter().any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_workspace_are_not_passed_on() {
        for name in ["CARGO_MANIFEST_DIR", "LIBTORCH", "LD_LIBRARY_PATH", "PYTHONPATH"] {
            assert!(is_ours(name), "{name}");
        }
        for name in ["CARGO_HOME", "PIP_INDEX_URL", "RUSTUP_TOOLCHAIN", "PATH"] {
            assert!(!is_ours(name), "{name}");
        }
        let given = stranger(Path::new("cc"), Path::new("/")).get_envs().count();
        assert!(given <= 2, "{given} variables");
    }
}
