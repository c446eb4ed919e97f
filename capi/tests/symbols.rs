//! What the library exports, and that its numbers agree with each other.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{SYSTEM_LIBRARIES, cargo, library, output_of, root, scratch, succeed};

/// Names of `tests/abi/symbols.txt`: a line each, with the version of the ABI that brought it.
fn committed() -> Vec<String> {
    let list = fs::read_to_string(root().join("tests/abi/symbols.txt")).expect("the list");
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let names = lines.map(|line| {
        let (name, since) = line.split_once(' ').expect("a name and a version");
        let (major, minor) = since.split_once('.').expect("major.minor");
        let known = (major.parse::<u32>().expect("a number"), minor.parse::<u32>().expect("a number"));
        assert!(known <= abi(), "{line}: the ABI is older");
        name.to_owned()
    });
    names.collect()
}

fn exported(library: &Path) -> Vec<String> {
    let table = output_of(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(library));
    table.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The number of a macro in the header.
fn number(name: &str) -> u32 {
    let header = fs::read_to_string(root().join("include/dlbridge.h")).expect("the header");
    let line = header.lines().find_map(|line| line.strip_prefix(&format!("#define {name} ")));
    line.expect("defined").parse().expect("a number")
}

fn abi() -> (u32, u32) {
    (number("DLB_ABI_MAJOR"), number("DLB_ABI_MINOR"))
}

#[test]
fn every_build_exports_the_same_functions() {
    let mut committed = committed();
    committed.sort();
    assert_eq!(exported(&library().join("libdlbridge.so")), committed, "tests/abi/symbols.txt");
    let target = scratch("bare");
    let mut bare = cargo(&["build", "--quiet", "--package", "dlbridge-capi", "--no-default-features"]);
    succeed(bare.arg("--target-dir").arg(&target));
    assert_eq!(exported(&target.join("debug/libdlbridge.so")), committed, "without features");
}

#[test]
fn every_function_of_the_header_is_exported() {
    let header = fs::read_to_string(root().join("include/dlbridge.h")).expect("the header");
    let code: String =
        header.split("/*").map(|part| part.split_once("*/").map_or(part, |(_, code)| code)).collect();
    let mut declared: Vec<_> = code
        .split('(')
        .filter_map(|before| before.split(|c: char| !c.is_alphanumeric() && c != '_').next_back())
        .filter(|name| name.starts_with("dlb_"))
        .collect();
    declared.sort_unstable();
    assert_eq!(declared, exported(&library().join("libdlbridge.so")));
}

#[test]
fn versions_agree() {
    let (major, minor) = abi();
    let manifest = fs::read_to_string(root().join("capi/Cargo.toml")).expect("the manifest");
    let (_, library) = manifest.split_once("[package.metadata.capi.library]").expect("the section");
    assert!(
        library.trim_start().starts_with(&format!("version = \"{major}.{minor}.")),
        "the SONAME does not follow the ABI"
    );
    let config =
        fs::read_to_string(root().join("capi/cmake/dlbridge-config-version.cmake")).expect("the file");
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        config.contains(&format!("set(PACKAGE_VERSION \"{version}\")")),
        "CMake's version is another one"
    );
    let minor = version.split('.').nth(1).expect("a minor version");
    assert!(config.contains(&format!("PACKAGE_FIND_VERSION_MINOR EQUAL {minor}\n")));
}

#[test]
fn the_static_library_needs_what_is_said() {
    let mut build = cargo(&["rustc", "--package", "dlbridge-capi", "--crate-type", "staticlib"]);
    build.arg("--target-dir").arg(scratch("native"));
    let output = succeed(build.args(["--", "--print", "native-static-libs"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.lines().find_map(|line| line.split_once("native-static-libs: ")).expect("the note").1;
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), SYSTEM_LIBRARIES);
    let cmake = fs::read_to_string(root().join("capi/cmake/dlbridge-config.cmake")).expect("the file");
    let names: Vec<_> = SYSTEM_LIBRARIES.iter().filter_map(|flag| flag.strip_prefix("-l")).collect();
    assert!(cmake.contains(&format!("INTERFACE_LINK_LIBRARIES {})", names.join(" "))), "CMake links others");
}

#[test]
fn the_library_stays_loaded() {
    let flags = output_of(Command::new("readelf").arg("-d").arg(library().join("libdlbridge.so")));
    assert!(flags.contains("NODELETE"), "{flags}");
}
