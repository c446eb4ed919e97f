//! The functions that the library exports, their declarations, and the versions.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{SYSTEM_LIBRARIES, cargo, library, output_of, root, scratch, succeed};

/// A line of `capi/tests/abi/symbols.txt`: a name, the version of the ABI that introduced it, and
/// its declaration or value in the header.
struct Line {
    name: String,
    since: (u32, u32),
    text: String,
}

fn committed() -> Vec<Line> {
    let list = fs::read_to_string(root().join("capi/tests/abi/symbols.txt")).expect("the list");
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let mut parts = line.splitn(3, ' ');
        let mut part =
            || parts.next().unwrap_or_else(|| panic!("{line}: name, version, declaration"));
        let (name, since, text) = (part().to_owned(), part(), part().to_owned());
        let (major, minor) = since.split_once('.').expect("major.minor");
        let since = (major.parse().expect("a number"), minor.parse().expect("a number"));
        Line { name, since, text }
    });
    parsed.collect()
}

/// Names of the functions in the list, in order.
fn functions() -> Vec<String> {
    let mut names: Vec<_> = committed().into_iter().map(|line| line.name).collect();
    names.retain(|name| name.starts_with("dlb_"));
    names.sort();
    names
}

/// The declarations of the header: names with the prototypes of functions and the values of codes.
fn declared() -> Vec<(String, String)> {
    let header = fs::read_to_string(root().join("include/dlbridge.h")).expect("the header");
    let code: String = header
        .split("/*")
        .map(|part| part.split_once("*/").map_or(part, |(_, code)| code))
        .collect();
    let codes = code.lines().filter_map(|line| line.strip_prefix("#define DLB_")?.split_once(' '));
    let codes =
        codes.filter(|(name, _)| !matches!(*name, "API" | "VERSION" | "ABI_MAJOR" | "ABI_MINOR"));
    let codes = codes.map(|(name, value)| (format!("DLB_{name}"), value.to_owned()));
    let prototypes = code.split(';').filter_map(|statement| {
        statement.split_once("DLB_API\n").or(statement.split_once("DLB_API "))
    });
    let prototypes =
        prototypes.filter(|(_, prototype)| prototype.contains("dlb_") && prototype.ends_with(')'));
    let prototypes = prototypes.map(|(_, prototype)| {
        let text = prototype.split_whitespace().collect::<Vec<_>>().join(" ");
        let before = text.split('(').next().expect("a name before the parameters");
        let name = before.rsplit([' ', '*']).next().expect("the last word").to_owned();
        (name, text)
    });
    codes.chain(prototypes).collect()
}

fn exported(library: &Path) -> Vec<String> {
    let table =
        output_of(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(library));
    table.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The value of a macro of the header.
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
    let functions = functions();
    assert_eq!(
        exported(&library().join("libdlbridge.so")),
        functions,
        "capi/tests/abi/symbols.txt"
    );
    let target = scratch("bare");
    let mut bare =
        cargo(&["build", "--quiet", "--package", "dlbridge-capi", "--no-default-features"]);
    succeed(bare.arg("--target-dir").arg(&target));
    assert_eq!(exported(&target.join("debug/libdlbridge.so")), functions, "without features");
}

#[test]
fn the_header_declares_the_listed_symbols() {
    let declared = declared();
    let mut committed = committed();
    for (name, text) in &declared {
        let index = committed.iter().position(|line| line.name == *name);
        let line = committed.swap_remove(
            index.unwrap_or_else(|| panic!("{name} is not in capi/tests/abi/symbols.txt")),
        );
        assert_eq!(line.text, *text, "{name} has changed");
        assert!(line.since <= abi(), "{name}: its version is newer than the ABI's");
    }
    let gone: Vec<_> = committed.iter().map(|line| &line.name).collect();
    assert!(gone.is_empty(), "{gone:?} are gone from the header");
}

#[test]
fn every_function_documents_ownership() {
    let header = fs::read_to_string(root().join("include/dlbridge.h")).expect("the header");
    for name in functions() {
        // Comments mention functions too.
        let is_code = |at: usize| {
            header[..at].rsplit('\n').next().is_some_and(|line| !line.starts_with(" *"))
        };
        let call = format!("{name}(");
        let mut found = header.match_indices(&call).map(|(at, _)| at);
        let before = &header[..found.find(|&at| is_code(at)).expect("declared")];
        let (_, comment) = before.rsplit_once("/**").expect("a comment");
        let (comment, declaration) = comment.split_once("*/").expect("the comment ends");
        // Otherwise it is the comment of the declaration before, and this one has none.
        assert!(!declaration.contains(';'), "{name} has no comment");
        assert!(comment.contains("Ownership: "), "{name}");
    }
}

#[test]
fn soname_and_cmake_have_the_current_version() {
    let (major, minor) = abi();
    let manifest = fs::read_to_string(root().join("capi/Cargo.toml")).expect("the manifest");
    let (_, library) = manifest.split_once("[package.metadata.capi.library]").expect("the section");
    assert!(
        library.trim_start().starts_with(&format!("version = \"{major}.{minor}.")),
        "the SONAME does not follow the ABI"
    );
    let config = fs::read_to_string(root().join("capi/cmake/dlbridge-config-version.cmake"))
        .expect("the file");
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        config.contains(&format!("set(PACKAGE_VERSION \"{version}\")")),
        "CMake's version is not {version}"
    );
    let minor = version.split('.').nth(1).expect("a minor version");
    assert!(config.contains(&format!("PACKAGE_FIND_VERSION_MINOR EQUAL {minor}\n")));
}

#[test]
fn the_static_library_needs_the_listed_system_libraries() {
    let mut build = cargo(&["rustc", "--package", "dlbridge-capi", "--crate-type", "staticlib"]);
    build.arg("--target-dir").arg(scratch("native"));
    let output = succeed(build.args(["--", "--print", "native-static-libs"]));
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = printed
        .lines()
        .find_map(|line| line.split_once("native-static-libs: "))
        .expect("the note")
        .1;
    // The compiler may print a flag twice.
    let sorted = |flags: Vec<_>| flags.into_iter().collect::<BTreeSet<&str>>();
    assert_eq!(sorted(line.split_whitespace().collect()), sorted(SYSTEM_LIBRARIES.to_vec()));
    let cmake =
        fs::read_to_string(root().join("capi/cmake/dlbridge-config.cmake")).expect("the file");
    let names: Vec<_> =
        SYSTEM_LIBRARIES.iter().filter_map(|flag| flag.strip_prefix("-l")).collect();
    assert!(
        cmake.contains(&format!("INTERFACE_LINK_LIBRARIES \"{}\")", names.join(";"))),
        "CMake links other libraries"
    );
}

#[test]
fn the_library_is_never_unloaded() {
    let flags = output_of(Command::new("readelf").arg("-d").arg(library().join("libdlbridge.so")));
    assert!(flags.contains("NODELETE"), "{flags}");
}
