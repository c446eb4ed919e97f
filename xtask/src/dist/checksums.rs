//! SHA-256 checksums of the files in a folder, in a file that `sha256sum --check` reads.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command::output;
use crate::{Outcome, run};

const FILE: &str = "SHA256SUMS";

/// Writes the checksums of all files in a folder and below it, sorted by name, into the folder.
pub(super) fn write(folder: &Path) -> Outcome {
    let mut find = Command::new("find");
    find.args([".", "-type", "f", "-printf", "%P\\n"]).current_dir(folder);
    let listed = output(&mut find)?;
    let mut files: Vec<_> = listed.lines().collect();
    files.sort_unstable();
    let sums = output(Command::new("sha256sum").arg("--").args(files).current_dir(folder))?;
    fs::write(folder.join(FILE), sums)?;
    Ok(())
}

/// Fails if a file in a folder has another checksum.
pub(super) fn check(folder: &Path) -> Outcome {
    let mut check = Command::new("sha256sum");
    run(check.args(["--check", "--quiet", "--strict", FILE]).current_dir(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_found() -> Outcome {
        let folder =
            std::env::temp_dir().join(format!("dlbridge-checksums-{}", std::process::id()));
        fs::create_dir_all(folder.join("inner"))?;
        fs::write(folder.join("inner/b"), "b")?;
        fs::write(folder.join("a"), "a")?;
        write(&folder)?;
        let sums = fs::read_to_string(folder.join(FILE))?;
        let names: Vec<_> = sums.lines().filter_map(|line| line.split("  ").nth(1)).collect();
        assert_eq!(names, ["a", "inner/b"]);
        check(&folder)?;
        fs::write(folder.join("inner/b"), "c")?;
        assert!(check(&folder).is_err());
        fs::remove_dir_all(&folder)?;
        Ok(())
    }
}
