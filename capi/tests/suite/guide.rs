//! Builds and runs the programs of `docs/cpp.md` and the one of `docs/cuda.md`, and compares what
//! they print with the page.

use std::fs;
use std::path::PathBuf;

use crate::support::{Link, Program, block, libtorch, output_of, root, scratch, skipped};
use crate::torch;

fn page() -> String {
    page_of("docs/cpp.md")
}

fn page_of(file: &str) -> String {
    fs::read_to_string(root().join(file)).expect("the page")
}

/// The part of the page under a heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).expect("the heading");
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

/// Writes the first program of a section to a file, and returns what it prints according to the
/// page.
fn program(heading: &str) -> (PathBuf, String) {
    program_of(&page(), heading)
}

/// The same of another page.
fn program_of(page: &str, heading: &str) -> (PathBuf, String) {
    let (source, rest) = block(section(page, heading), "cpp");
    let (printed, _) = block(rest, "text");
    let file = scratch(&format!("guide-{heading}")).join("program.cpp");
    fs::write(&file, source).expect("written");
    (file, printed.to_owned())
}

#[test]
fn the_first_program_and_the_frame_print_what_the_page_says() {
    for (heading, name) in [("A first program", "first"), ("A camera's frame", "frame")] {
        let (source, printed) = program(heading);
        let built = Program::new(&format!("guide-{name}"), "c++17", &[]).arguments([source]);
        assert_eq!(output_of(&mut built.sanitized(Link::Shared)), printed, "{heading}");
    }
}

#[test]
fn the_cmake_project_of_the_page_names_the_targets_of_the_package() {
    let page = page();
    let (project, _) = block(section(&page, "A first program"), "cmake");
    let tested = fs::read_to_string(root().join("capi/tests/cmake/CMakeLists.txt")).expect("it");
    let package = project.lines().find(|line| line.starts_with("find_package")).expect("one");
    assert!(tested.contains(package), "{package}");
    let exported = fs::read_to_string(root().join("capi/cmake/dlbridge-config.cmake")).expect("it");
    for target in ["dlbridge::shared", "dlbridge::static"] {
        assert!(project.contains(target) && exported.contains(target), "{target}");
    }
}

#[test]
fn the_plugin_packs_a_struct_and_releases_what_it_was_given() {
    let page = page();
    let (source, _) = block(section(&page, "A plugin"), "c");
    let folder = scratch("guide-plugin");
    let (plugin, host) = (folder.join("plugin.c"), folder.join("host.c"));
    fs::write(&plugin, source).expect("written");
    fs::write(&host, HOST).expect("written");
    let program = Program::new("guide-host", "c11", &[])
        .arguments(["-Icapi/tests/c"])
        .arguments([plugin, host]);
    assert_eq!(output_of(&mut program.sanitized(Link::Shared)), "");
}

/// Calls the plugin with a good struct and with a bad one.
const HOST: &str = "
#include \"check.h\"
dlb_status plugin_pack(DLManagedTensorVersioned *input, DLManagedTensorVersioned **output);
int main(void) {
  producer good, bad;
  DLManagedTensorVersioned *output = NULL;
  produce(&good);
  CHECK(plugin_pack(&good.managed, &output) == DLB_OK);
  CHECK(good.deleted == 1 && output != NULL && output->dl_tensor.ndim == good.managed.dl_tensor.ndim);
  output->deleter(output);
  produce(&bad);
  bad.managed.dl_tensor.ndim = -1;
  output = NULL;
  CHECK(plugin_pack(&bad.managed, &output) != DLB_OK);
  CHECK(bad.deleted == 1 && output == NULL);
  return 0;
}
";

#[test]
fn the_cuda_program_prints_what_its_page_says() {
    // `cargo xtask test` builds the fake driver and sets the variable.
    let Some(fake_cuda) = std::env::var_os("DLBRIDGE_FAKE_CUDA") else {
        skipped(
            "the program of docs/cuda.md",
            "DLBRIDGE_FAKE_CUDA does not name the folder of the fake CUDA driver",
        );
        return;
    };
    let (source, printed) = program_of(&page_of("docs/cuda.md"), "C++");
    let built = Program::new("guide-cuda", "c++17", &[]).arguments([source]);
    let mut program = built.sanitized(Link::Static);
    assert_eq!(output_of(program.env("LD_LIBRARY_PATH", fake_cuda)), printed);
}

#[test]
fn the_libtorch_program_prints_what_the_page_says() {
    let Some(libtorch) = libtorch() else {
        skipped(
            "the libtorch program of docs/cpp.md",
            "there is no libtorch (`cargo xtask setup`)",
        );
        return;
    };
    let (source, printed) = program("libtorch");
    let program = torch::program("guide-libtorch", &source, &libtorch);
    assert_eq!(output_of(&mut program.sanitized(Link::Shared)), printed);
}
