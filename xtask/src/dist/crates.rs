//! The crates as they are published, and tries of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::report::Report;
use super::stranger::{Folder, installer, stranger};
use crate::command::{cargo, output};
use crate::environment::interpreter;
use crate::{Outcome, root, run, tools};

/// In the order of their publication: each depends on those before it.
const CRATES: [&str; 3] = ["dlbridge", "dlbridge-pyo3", "dlbridge-capi"];

/// What the example of the core crate prints last.
const PRINTED: &str = "tensor → array: at the same address";

/// Makes everything in the folder `to`, and tries it.
pub(super) fn make(report: &mut Report, to: &Path, tries: &Folder) {
    let user = match User::new(tries) {
        Ok(user) => user,
        Err(error) => return report.attempt("crates", || Err(error)),
    };
    for name in CRATES {
        if report.make(name, || packed(name, to)).is_none() {
            // cargo packs a crate only with those that it depends on.
            return;
        }
        report.attempt("unpacked", || user.unpack(to, name));
        match name {
            "dlbridge" => report.attempt("a program that depends on it", || user.runs_example()),
            "dlbridge-pyo3" => {
                report.attempt("a Python module that depends on it", || user.imports_module());
            }
            _ => report.attempt("cargo cinstall", || user.installs_library()),
        }
    }
}

/// Packs a crate, and those that it depends on.
fn packed(name: &str, to: &Path) -> Outcome<PathBuf> {
    let mut package = cargo(&["package", "--locked", "--no-verify", "--quiet"]);
    let end = CRATES.iter().position(|other| *other == name).unwrap_or(0);
    for other in &CRATES[..=end] {
        package.args(["--package", other]);
    }
    run(&mut package)?;
    let file = format!("{}.crate", of_version(name));
    let packed = root().join("target/package").join(&file);
    fs::copy(packed, to.join(&file))?;
    Ok(to.join(file))
}

fn of_version(name: &str) -> String {
    format!("{name}-{}", env!("CARGO_PKG_VERSION"))
}

/// A user who has Rust, and the crates as they are unpacked.
struct User {
    folder: PathBuf,
}

impl User {
    fn new(tries: &Folder) -> Outcome<Self> {
        Ok(Self { folder: tries.empty("rust")? })
    }

    fn unpack(&self, from: &Path, name: &str) -> Outcome<String> {
        let file = from.join(format!("{}.crate", of_version(name)));
        run(Command::new("tar").arg("-xzf").arg(file).arg("-C").arg(&self.folder))?;
        Ok(String::new())
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.folder.join(of_version(name))
    }

    /// Makes an empty package with a manifest; dependencies on our crates are those that are
    /// unpacked.
    fn package(&self, name: &str, manifest: &str, source: (&str, &str)) -> Outcome<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(folder.join("src"))?;
        let core = self.path_of("dlbridge");
        let pyo3 = self.path_of("dlbridge-pyo3");
        let text = format!(
            "[package]\nname = \"{name}\"\nedition = \"2024\"\n\n{manifest}\
             [patch.crates-io]\ndlbridge.path = {core:?}\n\n[dependencies]\n\
             ndarray = \"0.17\"\ndlbridge.path = {core:?}\n"
        );
        let text = match name {
            "module" => format!(
                "{text}dlbridge-pyo3.path = {pyo3:?}\n\
                 pyo3 = {{ version = \"0.30\", features = [\"abi3-py311\"] }}\n"
            ),
            _ => text,
        };
        fs::write(folder.join("Cargo.toml"), text)?;
        fs::write(folder.join("src").join(source.0), source.1)?;
        Ok(folder)
    }

    /// A call of the cargo on the search path, which compiles into one folder.
    fn cargo(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = installer(Path::new("cargo"), folder);
        command.args(arguments).env("CARGO_TARGET_DIR", self.folder.join("target"));
        command
    }

    /// Compiles and runs the example of the core crate as a program of its own.
    fn runs_example(&self) -> Outcome<String> {
        let example = self.path_of("dlbridge").join("examples/quick.rs");
        let source = fs::read_to_string(example)?;
        let folder = self.package("program", "", ("main.rs", &source))?;
        let printed = output(&mut self.cargo(&folder, &["run", "--quiet"]))?;
        if !printed.contains(PRINTED) {
            return Err(format!("the example printed:\n{printed}").into());
        }
        Ok("the example quick".to_owned())
    }

    /// Compiles the module of the README, and calls it from Python.
    fn imports_module(&self) -> Outcome<String> {
        let readme = fs::read_to_string(self.path_of("dlbridge-pyo3").join("README.md"))?;
        let source = block(&readme).ok_or("the README has no block in Rust")?;
        let library = "[lib]\ncrate-type = [\"cdylib\"]\n\n";
        let folder = self.package("module", library, ("lib.rs", source))?;
        run(&mut self.cargo(&folder, &["build", "--quiet"]))?;
        let module = self.folder.join("target/debug/libmodule.so");
        fs::copy(module, folder.join("filters.abi3.so"))?;
        let python = interpreter("3.13").or_else(|| interpreter("3.11"));
        let python = python.ok_or("there is no CPython 3.13 or 3.11")?;
        let program = "import filters\nfrom array import array\n\
                       rows = memoryview(array('f', [1, 3])).cast('B').cast('f', (1, 2))\n\
                       print(filters.normalise(rows).tolist())";
        let printed = output(stranger(&python, &folder).args(["-c", program]))?;
        match printed.trim() {
            "[[0.25, 0.75]]" => Ok("the module of its README".to_owned()),
            _ => Err(format!("it printed {printed}").into()),
        }
    }

    /// Installs the C library from the unpacked crate, without the repository.
    fn installs_library(&self) -> Outcome<String> {
        let folder = self.path_of("dlbridge-capi");
        let prefix = self.folder.join("prefix");
        let mut install = self.cargo(&folder, &["cinstall", "--debug", "--libdir", "lib"]);
        let core = self.path_of("dlbridge");
        install.arg("--config").arg(format!("patch.crates-io.dlbridge.path={core:?}"));
        run(tools::found_by(install.arg("--prefix").arg(&prefix)))?;
        let file = prefix.join("lib/pkgconfig/dlbridge.pc");
        if file.is_file() { Ok(String::new()) } else { Err("there is no dlbridge.pc".into()) }
    }
}

/// The first block in Rust of a page.
fn block(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once("```rust\n")?;
    Some(rest.split_once("```\n")?.0)
}
