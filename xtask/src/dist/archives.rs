//! The C library as an archive for each platform, and tries of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::platform::{Emulator, GLIBC, PROCESSORS, Platform, newest_glibc};
use super::report::Report;
use super::stranger::{Folder, stranger};
use super::third_party;
use super::{checksums, commit_time};
use crate::command::{cargo, output};
use crate::{Outcome, root, run};

/// What the example prints.
pub(super) const PRINTED: &str = "the clone, back, strides (2, 1):\n 0 3\n 1 4\n 2 5\n";

/// What a user of an archive reads first.
const README: &str = include_str!("../../templates/archive.md");

/// Texts that an archive has besides the library.
const TEXTS: [&str; 4] = ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "examples/c"];

/// Makes everything in the folder `to`, and tries it.
pub(super) fn make(report: &mut Report, tools: &Path, to: &Path, tries: &Folder) {
    for processor in PROCESSORS {
        let name = format!("C library for {processor}");
        let platform = match Platform::find(processor) {
            Ok(platform) => platform,
            Err(missing) => {
                report.skip(&name, &missing.to_string());
                continue;
            }
        };
        let Some(file) = report.make(&name, || archive(&platform, tools, to, tries)) else {
            continue;
        };
        let (cc, emulator) = match platform.c_compiler() {
            Ok(found) => found,
            Err(missing) => {
                report.not_tried("the example", &missing.to_string());
                continue;
            }
        };
        let user = User { archive: &file, processor, cc, emulator, tries };
        report.attempt("glibc", || user.oldest_glibc());
        report.attempt("symbols", || user.exports());
        report.attempt("find_package", || user.with_cmake(tools));
        report.attempt("pkg-config", || user.with_pkg_config(false));
        report.attempt("pkg-config --static", || user.with_pkg_config(true));
    }
}

/// The name of an archive and of its folder.
fn name(processor: &str) -> String {
    format!("dlbridge-{}-linux-{processor}", env!("CARGO_PKG_VERSION"))
}

/// Makes the archive for a platform.
fn archive(platform: &Platform, tools: &Path, to: &Path, tries: &Folder) -> Outcome<PathBuf> {
    let name = name(platform.processor);
    let target = platform.target();
    let folder = tries.empty("archive")?;
    let content = folder.join(&name);
    let mut install = cargo(&["cinstall", "--locked", "--release", "--package", "dlbridge-capi"]);
    install.args(["--target", &target, "--prefix", "/", "--libdir", "lib", "--destdir"]);
    install.arg(&content);
    platform.compiling(&mut install, tools)?;
    platform.linked_by_zig(&mut install)?;
    run(&mut install)?;
    platform.strip(&content.join("lib/libdlbridge.a"))?;
    without_prefix(&content.join("lib/pkgconfig/dlbridge.pc"))?;
    let mut copy = Command::new("cp");
    run(copy.arg("-r").args(TEXTS).arg(&content).current_dir(root()))?;
    fs::rename(content.join("c"), content.join("share/dlbridge-example"))?;
    let notices = third_party::notices("dlbridge-capi", &target)?;
    fs::write(content.join("LICENSE-THIRD-PARTY"), notices)?;
    fs::write(content.join("README.md"), README)?;
    checksums::write(&content)?;
    let archive = to.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=u+w,go=rX"]);
    tar.arg(format!("--mtime=@{}", commit_time()?)).arg("--use-compress-program=gzip -n9");
    run(tar.arg("-cf").arg(&archive).arg("-C").arg(&folder).arg(&name))?;
    Ok(archive)
}

/// Lets a pkg-config file find its library in whichever folder the archive is unpacked.
fn without_prefix(file: &Path) -> Outcome {
    let text = fs::read_to_string(file)?;
    fs::write(file, relocatable(&text).ok_or_else(|| format!("no prefix in:\n{text}"))?)?;
    Ok(())
}

/// A pkg-config file whose prefix is relative to it.
fn relocatable(text: &str) -> Option<String> {
    let (before, after) = text.split_once("prefix=/\n")?;
    Some(format!("{before}prefix=${{pcfiledir}}/../..\n{after}"))
}

/// A user who has the archive, a C compiler, pkg-config and CMake.
struct User<'a> {
    archive: &'a Path,
    processor: &'static str,
    cc: String,
    emulator: Emulator,
    tries: &'a Folder,
}

impl User<'_> {
    /// Unpacks the archive into an empty folder, and compares its checksums; returns both folders.
    fn unpacked(&self) -> Outcome<(PathBuf, PathBuf)> {
        let folder = self.tries.empty("c")?;
        run(Command::new("tar").arg("-xzf").arg(self.archive).arg("-C").arg(&folder))?;
        let prefix = folder.join(name(self.processor));
        checksums::check(&prefix)?;
        Ok((folder, prefix))
    }

    /// Fails if the library needs a newer glibc than it should.
    fn oldest_glibc(&self) -> Outcome<String> {
        let (_, prefix) = self.unpacked()?;
        let mut readelf = Command::new("readelf");
        let library = prefix.join("lib/libdlbridge.so");
        let printed = output(readelf.args(["--version-info", "--wide"]).arg(library))?;
        let (major, minor) = newest_glibc(&printed).ok_or("no version of glibc in the library")?;
        let said = format!("the library needs {major}.{minor}");
        if (major, minor) <= GLIBC { Ok(said) } else { Err(said.into()) }
    }

    /// Fails if the library exports anything but our functions.
    fn exports(&self) -> Outcome<String> {
        let (_, prefix) = self.unpacked()?;
        let mut readelf = Command::new("readelf");
        let library = prefix.join("lib/libdlbridge.so");
        let printed = output(readelf.args(["--dyn-syms", "--wide"]).arg(library))?;
        let exported = exported(&printed);
        let foreign: Vec<_> = exported.iter().filter(|name| !name.starts_with("dlb_")).collect();
        if exported.is_empty() || !foreign.is_empty() {
            return Err(format!("{} exports, among them {foreign:?}", exported.len()).into());
        }
        Ok(format!("exports {} functions dlb_…, nothing else", exported.len()))
    }

    /// Builds the example with CMake.
    fn with_cmake(&self, tools: &Path) -> Outcome<String> {
        let (folder, prefix) = self.unpacked()?;
        let cmake = tools.join("bin/cmake");
        let mut configure = stranger(&cmake, &folder);
        configure.arg("-S").arg(prefix.join("share/dlbridge-example")).args(["-B", "build"]);
        configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
        configure.arg(format!("-DCMAKE_C_COMPILER={}", self.cc));
        run(&mut configure)?;
        run(stranger(&cmake, &folder).args(["--build", "build"]))?;
        self.prints(&mut self.emulator.launch(&folder.join("build/transpose"), &folder))
    }

    /// Compiles the example with the flags of pkg-config.
    fn with_pkg_config(&self, is_static: bool) -> Outcome<String> {
        let (folder, prefix) = self.unpacked()?;
        let mut ask = stranger(Path::new("pkg-config"), &folder);
        ask.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
        ask.args(["--cflags", "--libs"]).args(is_static.then_some("--static")).arg("dlbridge");
        let flags = output(&mut ask)?;
        let mut compile = stranger(Path::new(&self.cc), &folder);
        compile.arg(prefix.join("share/dlbridge-example/transpose.c")).args(["-o", "program"]);
        compile.args(flags.split_whitespace().map(|flag| match flag {
            // The linker prefers the shared library of a name.
            "-ldlbridge" if is_static => "-l:libdlbridge.a",
            flag => flag,
        }));
        run(&mut compile)?;
        if is_static {
            // The program must not need the folder.
            fs::rename(&prefix, folder.join("moved"))?;
        }
        let mut program = self.emulator.launch(&folder.join("program"), &folder);
        self.prints(program.env("LD_LIBRARY_PATH", prefix.join("lib")))
    }

    /// Runs the example, and fails unless it prints what it should.
    fn prints(&self, program: &mut Command) -> Outcome<String> {
        let printed = output(program)?;
        if printed.ends_with(PRINTED) {
            return Ok(format!("the example, with {}", self.cc));
        }
        Err(format!("the example printed:\n{printed}").into())
    }
}

/// The names that a library exports, from what `readelf --dyn-syms --wide` prints.
fn exported(printed: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for line in printed.lines() {
        // Number, value, size, type, binding, visibility, section, name.
        if let [_, _, _, _, "GLOBAL" | "WEAK", _, section, name, ..] =
            line.split_whitespace().collect::<Vec<_>>()[..]
            && section != "UND"
        {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undefined_and_local_symbols_are_not_exported() {
        let printed = "   Num:    Value          Size Type    Bind   Vis      Ndx Name\n\
                       1: 00000000     0 FUNC    GLOBAL DEFAULT  UND free@GLIBC_2.2.5 (2)\n\
                       2: 00000010     8 FUNC    LOCAL  DEFAULT    9 inner\n\
                       3: 00000020     8 FUNC    GLOBAL DEFAULT    9 dlb_abi_version\n";
        assert_eq!(exported(printed), ["dlb_abi_version"]);
    }

    #[test]
    fn the_pkg_config_file_finds_its_prefix() {
        let moved = relocatable("prefix=/\nexec_prefix=${prefix}\n");
        assert_eq!(moved.as_deref(), Some("prefix=${pcfiledir}/../..\nexec_prefix=${prefix}\n"));
        assert_eq!(relocatable("prefix=/usr\n"), None);
    }
}
