//! A platform that wheels and archives are made for: how to compile for it, and how to run what was
//! compiled.

use std::env::consts::ARCH;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::stranger::stranger;
use crate::{Outcome, cross, root, run, tools};

/// The processors, as Rust, Linux and PyPI name them.
pub(super) const PROCESSORS: [&str; 2] = ["x86_64", "aarch64"];

/// The oldest glibc that Rust itself supports on these processors. zig links for it.
pub(super) const GLIBC: (u32, u32) = (2, 17);

/// Linux with glibc on a processor.
pub(super) struct Platform {
    pub(super) processor: &'static str,
    rustc: PathBuf,
    /// The folder of what is compiled.
    built: PathBuf,
}

impl Platform {
    /// The platform of a processor, if this machine can compile for it.
    pub(super) fn find(processor: &'static str) -> Outcome<Self> {
        if processor == ARCH {
            let built = root().join("target");
            return Ok(Self { processor, rustc: PathBuf::from("rustc"), built });
        }
        let rustc = cross::machine(processor)?.rust_compiler()?;
        Ok(Self { processor, rustc, built: cross::folder() })
    }

    pub(super) fn target(&self) -> String {
        format!("{}-unknown-linux-gnu", self.processor)
    }

    /// Sets the Rust compiler for the platform and the folder of what it compiles, and adds cargo-c
    /// and the programs of a virtual environment, among them zig, to the search path.
    pub(super) fn compiling(&self, command: &mut Command, programs: &Path) -> Outcome {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let ours = [programs.join("bin"), tools::folder().join("bin")];
        let paths = ours.into_iter().chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(paths)?);
        command.env("RUSTC", &self.rustc).env("CARGO_TARGET_DIR", &self.built);
        Ok(())
    }

    /// Makes zig the linker of cargo, for the oldest glibc.
    pub(super) fn linked_by_zig(&self, command: &mut Command) -> Outcome {
        let script = self.built.join(format!("zig-{}", self.processor));
        let (major, minor) = GLIBC;
        // zig does not know `--exclude-libs`, which capi/build.rs asks for. rustc's list of
        // exported symbols hides those of dependencies, too; `User::exports` in archives.rs checks
        // it.
        let text = format!(
            "#!/bin/sh\nfor argument do\n  shift\n  \
             [ \"$argument\" = -Wl,--exclude-libs,ALL ] || set -- \"$@\" \"$argument\"\ndone\n\
             exec cargo-zigbuild zig cc -- -target {}-linux-gnu.{major}.{minor} \"$@\"\n",
            self.processor
        );
        fs::create_dir_all(&self.built)?;
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let target = self.target().to_uppercase().replace('-', "_");
        command.env(format!("CARGO_TARGET_{target}_LINKER"), script);
        Ok(())
    }

    /// The C compiler for the platform on this machine, and a command that runs what it makes.
    pub(super) fn c_compiler(&self) -> Outcome<(String, Emulator)> {
        if self.processor == ARCH {
            return Ok(("cc".to_owned(), Emulator(None)));
        }
        let (prefix, emulator) = cross::machine(self.processor)?.emulated()?;
        Ok((format!("{prefix}gcc"), Emulator(Some(emulator))))
    }

    /// Removes the debug information of std and of its dependencies from a static library, if this
    /// machine has the tool for the platform.
    pub(super) fn strip(&self, library: &Path) -> Outcome {
        let prefix = match self.processor {
            ARCH => "",
            other => match cross::machine(other)?.emulated() {
                Ok((prefix, _)) => prefix,
                Err(_) => return Ok(()),
            },
        };
        run(Command::new(format!("{prefix}strip")).arg("--strip-debug").arg(library))
    }
}

/// What runs programs of another processor; nothing for this machine's own.
pub(super) struct Emulator(Option<Command>);

impl Emulator {
    /// A command that runs a program in a folder, with the variables of `stranger`.
    pub(super) fn launch(&self, program: &Path, folder: &Path) -> Command {
        let Some(emulator) = &self.0 else { return stranger(program, folder) };
        let mut command = stranger(Path::new(emulator.get_program()), folder);
        command.arg(program);
        command.envs(emulator.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }
}

/// The newest version of glibc that an object file asks for, as `readelf --version-info` prints it.
pub(super) fn newest_glibc(version_info: &str) -> Option<(u32, u32)> {
    let versions = version_info.split("GLIBC_").skip(1).filter_map(|rest| {
        let version = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        let mut parts = version.split('.').map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    });
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_glibc_are_compared_as_numbers() {
        let printed = "  0x0010:   Name: GLIBC_2.2.5  Flags: none  Version: 4\n  \
                       0x0020:   Name: GLIBC_2.17  Flags: none  Version: 3\n  \
                       0x0030:   Name: GCC_4.2.0  Flags: none  Version: 2\n";
        assert_eq!(newest_glibc(printed), Some((2, 17)));
        assert_eq!(newest_glibc("Name: GCC_4.2.0"), None);
    }
}
