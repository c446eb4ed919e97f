//! The library as `cargo cinstall` installs it: pkg-config and CMake find it, and the examples run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::{
    cargo, is_installed, libtorch, output_of, root, run_silent, scratch, skipped, succeed,
};

/// The prefix that the library is installed to, once for all tests; `None` without cargo-c.
pub(crate) fn prefix() -> Option<&'static Path> {
    static PREFIX: OnceLock<Option<PathBuf>> = OnceLock::new();
    let prefix = PREFIX.get_or_init(|| {
        if !cargo(&["cinstall", "--version"]).output().is_ok_and(|output| output.status.success()) {
            skipped("the installed library", "there is no cargo-c (docs/cpp.md installs it)");
            return None;
        }
        let prefix = scratch("prefix");
        let mut install = cargo(&["cinstall", "--package", "dlbridge-capi", "--prefix"]);
        succeed(install.arg(&prefix).arg("--target-dir").arg(scratch("cinstall")));
        Some(prefix)
    });
    prefix.as_deref()
}

/// The folder of the installed libraries: `lib`, or a folder of the system's choice below it.
pub(crate) fn libraries(prefix: &Path) -> PathBuf {
    let listed = output_of(Command::new("find").arg(prefix).args(["-name", "libdlbridge.a"]));
    Path::new(listed.trim()).parent().expect("installed").to_path_buf()
}

#[test]
fn the_soname_has_the_abi_version() {
    let Some(prefix) = prefix() else { return };
    let library = libraries(prefix).join("libdlbridge.so");
    let dynamic = output_of(Command::new("readelf").arg("-d").arg(library));
    assert!(dynamic.contains("soname: [libdlbridge.so.0.4]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    for header in [
        "dlbridge.h",
        "dlbridge.hpp",
        "dlbridge/mdspan.hpp",
        "dlbridge/nanobind.hpp",
        "dlbridge/pybind11.hpp",
        "dlbridge/python.hpp",
        "dlbridge/torch.hpp",
        "dlbridge/torch_plain.h",
        "dlpack/dlpack.h",
    ] {
        assert!(prefix.join("include/dlbridge").join(header).is_file(), "{header}");
    }
}

#[test]
fn pkg_config_finds_the_library() {
    let Some(prefix) = prefix() else { return };
    if !is_installed("pkg-config") {
        skipped("pkg-config", "it is not installed");
        return;
    }
    let libraries = libraries(prefix);
    for extra in [&[][..], &["--static"]] {
        let mut query = Command::new("pkg-config");
        query
            .env("PKG_CONFIG_PATH", libraries.join("pkgconfig"))
            .args(["--cflags", "--libs", "dlbridge"]);
        let flags = output_of(query.args(extra));
        let program = scratch(&format!("pkg-config-{}", extra.len())).join("program");
        let mut compiler = Command::new("cc");
        compiler.arg(root().join("examples/c/transpose.c")).arg("-o").arg(&program);
        if !extra.is_empty() {
            // Otherwise the linker prefers the shared library.
            compiler.arg("-static-libgcc").arg("-Wl,-Bstatic");
        }
        let flags = flags.split_whitespace().map(str::to_owned);
        // The other libraries are linked shared.
        let flags = flags.flat_map(|flag| match (flag.as_str(), extra.is_empty()) {
            ("-ldlbridge", false) => vec![flag, "-Wl,-Bdynamic".to_owned()],
            _ => vec![flag],
        });
        run_silent(compiler.args(flags));
        let needs = output_of(Command::new("readelf").arg("-d").arg(&program));
        assert_eq!(needs.contains("[libdlbridge.so.0.4]"), extra.is_empty(), "{needs}");
        let mut run = Command::new(&program);
        assert_eq!(output_of(run.env("LD_LIBRARY_PATH", &libraries)), TRANSPOSE);
        let failed = run.arg("-3").output().expect("it runs");
        let expected =
            "DLB_ERROR_INVALID_ARGUMENT: desc: shape[0] = -3: a size cannot be negative\n";
        assert_eq!(
            (failed.status.code(), String::from_utf8_lossy(&failed.stderr).as_ref()),
            (Some(1), expected)
        );
    }
}

const TRANSPOSE: &str = "\
the transpose, strides (1, 3):
 0 3
 1 4
 2 5
the buffer is freed
the clone, back, strides (2, 1):
 0 3
 1 4
 2 5
";

/// Configures and builds a project with CMake, and returns its build folder.
fn cmake(project: &str, prefix: &Path, arguments: &[String]) -> Option<PathBuf> {
    let venv = root().join(".venv/bin/cmake");
    let cmake = if venv.exists() { venv } else { PathBuf::from("cmake") };
    if !Command::new(&cmake).arg("--version").output().is_ok_and(|output| output.status.success()) {
        skipped(project, "there is no CMake");
        return None;
    }
    let build = scratch(&format!("cmake-{}", project.replace('/', "-")));
    let mut configure = Command::new(&cmake);
    configure.arg("-S").arg(root().join(project)).arg("-B").arg(&build).args(arguments);
    succeed(configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())));
    succeed(Command::new(&cmake).arg("--build").arg(&build));
    Some(build)
}

/// The names that a shared object exports.
pub(crate) fn exports(object: &Path) -> String {
    output_of(Command::new("nm").args(["-D", "--defined-only"]).arg(object))
}

#[test]
fn cmake_finds_the_shared_and_the_static_library() {
    let Some(prefix) = prefix() else { return };
    let Some(build) = cmake("capi/tests/cmake", prefix, &[]) else { return };
    for language in ["c", "cpp"] {
        for (variant, shared) in [("shared", true), ("static", false)] {
            let program = build.join(format!("{language}_{variant}"));
            run_silent(&mut Command::new(&program));
            let needs = output_of(Command::new("readelf").arg("-d").arg(&program));
            assert_eq!(needs.contains("[libdlbridge.so.0.4]"), shared, "{needs}");
        }
    }
    let exported = exports(&build.join("plugin.so"));
    assert!(exported.contains("plugin_make") && !exported.contains("dlb_"), "{exported}");
    let Some(build) = cmake("examples/c", prefix, &[]) else { return };
    assert_eq!(output_of(&mut Command::new(build.join("transpose"))), TRANSPOSE);
}

#[test]
fn the_libtorch_example_runs() {
    let Some(prefix) = prefix() else { return };
    let Some(libtorch) = libtorch() else {
        skipped("examples/cpp", "there is no libtorch (`cargo xtask setup`)");
        return;
    };
    let libtorch = format!("-DLIBTORCH={}", libtorch.display());
    let Some(build) = cmake("examples/cpp", prefix, &[libtorch]) else { return };
    let printed = output_of(&mut Command::new(build.join("round_trip")));
    for line in [
        "shape (4, 3), strides (1, 4), the same memory",
        "libtorch sees the 100",
        "the vector in libtorch: the same memory, its square:",
        "the transpose, copied: contiguous 1, equal 1",
        "refused: the libtorch tensor requires grad; use detach() first",
    ] {
        assert!(printed.lines().any(|found| found == line), "{line} is not in\n{printed}");
    }
}

#[test]
fn the_list_of_examples_is_complete() {
    let list = std::fs::read_to_string(root().join("examples/README.md")).expect("the list");
    let mut files = Command::new("git");
    files.current_dir(root()).args(["ls-files", "examples", "python/examples"]);
    for file in output_of(&mut files).lines().filter(|file| !file.ends_with("README.md")) {
        let name = Path::new(file.strip_prefix("examples/").unwrap_or(file));
        // The file, or a folder that has it.
        let mut listed = name.ancestors().take_while(|part| !part.as_os_str().is_empty());
        let is_linked = listed.any(|part| list.contains(&format!("{})", part.display())));
        assert!(is_linked, "examples/README.md does not link {file}");
    }
}
