//! Builds the library, compiles programs against it, and runs them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The libraries that a program needs besides the static library on Linux.
pub(crate) const SYSTEM_LIBRARIES: [&str; 7] =
    ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a package within the workspace")
}

/// The first block of a language in a page, and the rest of the page.
pub(crate) fn block<'a>(page: &'a str, language: &str) -> (&'a str, &'a str) {
    let (_, rest) = page.split_once(&format!("```{language}\n")).expect("a block in this language");
    rest.split_once("```\n").expect("its end")
}

/// An empty folder for the files of a test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("removed");
    }
    fs::create_dir_all(&folder).expect("created");
    folder
}

/// A cargo command in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// The folder that holds `libdlbridge.so` and `libdlbridge.a`, built once in the profile of this
/// test. `cargo xtask test --target` names the folder of a library for another processor.
pub(crate) fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(folder) = std::env::var_os("DLBRIDGE_CROSS_LIBRARY") {
            return PathBuf::from(folder);
        }
        let mut build = cargo(&["build", "--quiet", "--package", "dlbridge-capi"]);
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        if profile == "release" {
            build.arg("--release");
        }
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target folder");
        succeed(build.arg("--target-dir").arg(target));
        target.join(profile)
    })
}

/// Whether programs are compiled for another processor or C library.
pub(crate) fn is_cross() -> bool {
    std::env::var_os("DLBRIDGE_CROSS_LIBRARY").is_some()
}

/// A compiler, or a tool for object files, for the processor that programs are compiled for.
/// `cargo xtask test --target` sets the prefix of the tools' names, such as `aarch64-linux-gnu-`.
pub(crate) fn tool(name: &str) -> Command {
    let Ok(prefix) = std::env::var("DLBRIDGE_CROSS_PREFIX") else { return Command::new(name) };
    let name = match name {
        "cc" => "gcc",
        "c++" => "g++",
        name => name,
    };
    Command::new(prefix + name)
}

/// A command that runs a compiled program, in the emulator that `cargo xtask test --target` sets.
/// The program does not look for the library in cargo's folders, which hold this machine's.
pub(crate) fn launch(program: impl AsRef<OsStr>) -> Command {
    let mut command = match std::env::var_os("DLBRIDGE_CROSS_EMULATOR") {
        None => Command::new(program),
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.arg(program);
            command
        }
    };
    command.env_remove("LD_LIBRARY_PATH");
    command
}

/// Whether a tool is installed.
pub(crate) fn is_installed(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Prints that a part of a test is skipped.
pub(crate) fn skipped(what: &str, why: &str) {
    // Written to the terminal: the test harness does not capture this.
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "skipped: {what}: {why}");
}

/// Runs a command. If it fails, panics with everything that it printed.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The standard output of a command that succeeds.
pub(crate) fn output_of(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).expect("UTF-8")
}

/// Runs a command that must succeed and print nothing.
pub(crate) fn run_silent(command: &mut Command) {
    let Output { stdout, stderr, .. } = succeed(command);
    let printed = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert!(printed.is_empty(), "{command:?}: {printed}");
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Link {
    Shared,
    Static,
}

/// A program to compile.
pub(crate) struct Program {
    compiler: Command,
    output: PathBuf,
}

impl Program {
    /// A program of C or C++ sources under `capi/tests/`, in a standard such as `c99` or `c++20`.
    pub(crate) fn new(name: &str, standard: &str, sources: &[&str]) -> Self {
        Self::with("cc", "c++", name, standard, sources)
    }

    /// The same with other compilers.
    pub(crate) fn with(c: &str, cpp: &str, name: &str, standard: &str, sources: &[&str]) -> Self {
        let mut compiler = tool(if standard.starts_with("c++") { cpp } else { c });
        let output = scratch(&format!("{name}-{standard}")).join("program");
        compiler
            .current_dir(root())
            .args(["-g1", "-pedantic", "-Wall", "-Wextra", "-Werror", "-pthread", "-Iinclude"])
            .arg(format!("-std={standard}"))
            .args(sources.iter().map(|source| root().join("capi/tests").join(source)))
            .arg("-o")
            .arg(&output);
        Self { compiler, output }
    }

    /// Adds arguments for the compiler.
    pub(crate) fn arguments(
        mut self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Self {
        self.compiler.args(arguments);
        self
    }

    /// Compiles the program with sanitizers, links the library, and returns a command that runs it.
    /// AddressSanitizer returns NULL for allocations that are too large, so that the library's own
    /// errors are tested.
    pub(crate) fn sanitized(self, link: Link) -> Command {
        let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
        let mut command = Command::new(self.arguments(sanitizers).link(link));
        command.env("ASAN_OPTIONS", "allocator_may_return_null=1");
        command
    }

    /// Compiles the program without the library, and returns its path.
    pub(crate) fn without_library(mut self) -> PathBuf {
        run_silent(&mut self.compiler);
        self.output
    }

    /// Compiles the program, links the library, and returns the program's path.
    pub(crate) fn link(mut self, link: Link) -> PathBuf {
        let library = library();
        match link {
            Link::Shared => {
                self.compiler.arg("-L").arg(library).arg("-ldlbridge");
                self.compiler.arg(format!("-Wl,-rpath,{}", library.display()));
            }
            Link::Static => {
                // `cargo xtask test --target musl` puts `libgcc_s` there.
                self.compiler.arg("-L").arg(library);
                self.compiler.arg(library.join("libdlbridge.a")).args(SYSTEM_LIBRARIES);
            }
        }
        run_silent(&mut self.compiler);
        self.output
    }
}

/// The folder of libtorch, if there is one: `LIBTORCH`, which cargo sets to the one of `cargo xtask
/// setup`, or the active Python's.
pub(crate) fn libtorch() -> Option<PathBuf> {
    let folder = if std::env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        let mut python = Command::new("python3");
        let output = python.args(["-c", "import torch; print(torch.__path__[0])"]).output().ok()?;
        PathBuf::from(String::from_utf8(output.stdout).ok()?.trim())
    } else {
        PathBuf::from(std::env::var_os("LIBTORCH")?)
    };
    folder.join("include/ATen/ATen.h").is_file().then_some(folder)
}

/// The folders of every libtorch to compile programs against: that of `libtorch`, and the newest
/// one, which `cargo xtask test` names in `DLBRIDGE_NEWEST_LIBTORCH`.
pub(crate) fn libtorches() -> Vec<PathBuf> {
    let newest = std::env::var_os("DLBRIDGE_NEWEST_LIBTORCH").map(PathBuf::from);
    libtorch().into_iter().chain(newest).collect()
}
