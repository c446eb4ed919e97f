//! Runs the examples in the comments of the headers, under sanitizers. The examples of a header
//! become one program, in which each example is a function. A group of functions or a class without
//! an example fails a test.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Link, Program, root, scratch, skipped, succeed};
use crate::{programs, torch};

/// The first function of each group of `dlbridge.h`. Its comment has the example of the group.
const C_GROUPS: [&str; 11] = [
    "dlb_abi_version",          // versions and capabilities
    "dlb_error_status",         // errors
    "dlb_dtype_name",           // element types
    "dlb_tensor_share",         // handles
    "dlb_tensor_permute",       // views
    "dlb_tensor_from_dlpack",   // DLPack structs
    "dlb_tensor_from_memory",   // memory
    "dlb_tensor_clone",         // copies
    "dlb_trim",                 // the cache
    "dlb_tensor_to_device",     // devices
    "dlb_tensor_record_stream", // streams
];

/// The classes and functions of `dlbridge.hpp` outside the class `Tensor` that have an example, in
/// their order.
const CPP_DECLARATIONS: [&str; 10] = [
    "class Error",
    "dtype_name(",
    "using Exported =",
    "enum class MemoryFormat",
    "dtype_of()",
    "class Dims",
    "class Tensor",
    "operator<<(",
    "void synchronize(",
    "std::size_t trim(",
];

/// Declarations of `dlbridge.hpp` whose use other examples show, or that are constants.
const CPP_WITHOUT_EXAMPLE: [&str; 5] = [
    "struct Release",
    "using ExportedLegacy =",
    "DLDevice cpu",
    "std::size_t cached_bytes(",
    "std::size_t set_cache_limit(",
];

/// The groups of functions of the class `Tensor`: the comments that begin with `@name`.
const TENSOR_GROUPS: usize = 9;

struct Example {
    /// The number of the line in the header on which the code begins.
    line: usize,
    code: String,
    /// Whether the comment begins a group of functions of a class, with `@name`.
    begins_group: bool,
    /// The first line of code after the comment.
    declaration: String,
}

fn header(name: &str) -> String {
    fs::read_to_string(root().join("include").join(name)).expect("the header")
}

/// A line of a comment without its marker; `None` for code.
fn comment(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let text = ["/// ", "// ", "* "].iter().find_map(|marker| line.strip_prefix(marker));
    text.or_else(|| ["///", "//", "*", "/**"].contains(&line).then_some(""))
}

/// The examples in the comments of a header, in order.
fn examples(name: &str, language: &str) -> Vec<Example> {
    let text = header(name);
    let lines: Vec<&str> = text.lines().collect();
    let fence = format!("```{language}");
    let mut found = Vec::new();
    for (start, _) in lines.iter().enumerate().filter(|(_, line)| comment(line) == Some(&*fence)) {
        let block = lines[start + 1..].iter().map_while(|line| comment(line));
        let code: Vec<&str> = block.take_while(|line| !line.starts_with("```")).collect();
        let end = start + 1 + code.len();
        assert_eq!(lines.get(end).and_then(|line| comment(line)), Some("```"), "{name}:{start}");
        let mut before = lines[..start].iter().rev().map_while(|line| comment(line));
        let after = lines[end..].iter().find(|line| comment(line).is_none() && line.trim() != "*/");
        found.push(Example {
            line: start + 2,
            code: code.join("\n"),
            begins_group: before.any(|line| line.starts_with("@name ")),
            declaration: after.map_or_else(String::new, |line| (*line).to_owned()),
        });
    }
    let fences = text.matches("```").count();
    assert_eq!(fences, 2 * found.len(), "{name} has a block in another language than {language}");
    found
}

/// Writes a program that calls the examples of a header one after the other. `begin` is its first
/// lines. Compilers report errors in lines of the header.
fn program(name: &str, begin: &str, examples: &[Example]) -> PathBuf {
    let mut text = format!("{begin}\n#undef NDEBUG\n#include <assert.h>\n");
    let mut calls = String::new();
    let path = root().join("include").join(name);
    for (index, Example { line, code, .. }) in examples.iter().enumerate() {
        writeln!(text, "static void example_{index}(void) {{").expect("written");
        writeln!(text, "#line {line} \"{}\"\n{code}\n}}", path.display()).expect("written");
        writeln!(calls, "  example_{index}();").expect("written");
    }
    write!(text, "int main(void) {{\n{calls}  return 0;\n}}\n").expect("written");
    let language = if name.ends_with(".h") { "c" } else { "cpp" };
    let file = scratch(&format!("examples-{}", name.replace('/', "-"))).join("examples");
    let file = file.with_extension(language);
    fs::write(&file, text).expect("written");
    file
}

const C_BEGIN: &str = "#include <dlbridge.h>\n#include <stdio.h>\n#include <stdlib.h>";
const CPP_BEGIN: &str = "#include <dlbridge.hpp>\n#include <iostream>";

#[test]
fn every_group_of_c_functions_begins_with_an_example_that_runs() {
    let examples = examples("dlbridge.h", "c");
    let text = header("dlbridge.h");
    for (example, function) in examples.iter().zip(C_GROUPS) {
        // A long declaration begins on the line after `DLB_API`.
        let after: String = text.lines().skip(example.line).collect::<Vec<_>>().join("\n");
        let (_, declaration) = after.split_once("*/").expect("the comment ends");
        let declaration = declaration.split(';').next().expect("a declaration");
        assert!(declaration.contains(&format!("{function}(")), "{function}: {declaration}");
    }
    assert_eq!(examples.len(), C_GROUPS.len(), "a group without an example, or with two");
    require_a_group_for_each_file();
    let source = program("dlbridge.h", C_BEGIN, &examples);
    let program = Program::new("examples-c", "c99", &[]).arguments([source]);
    succeed(&mut program.sanitized(Link::Static));
}

/// Each file of `capi/src` that defines functions of the header has the first function of a group.
fn require_a_group_for_each_file() {
    for entry in fs::read_dir(root().join("capi/src")).expect("the folder") {
        let path = entry.expect("a file").path();
        let text = fs::read_to_string(&path).expect("text");
        let Some((_, first)) = text.split_once("pub extern \"C\" fn ") else { continue };
        let name = first.split('(').next().expect("a name");
        assert!(C_GROUPS.contains(&name), "{}: {name} begins no group", path.display());
    }
}

#[test]
fn every_cpp_class_and_group_has_an_example_that_runs() {
    let examples = examples("dlbridge.hpp", "cpp");
    let groups = examples.iter().filter(|example| example.begins_group).count();
    assert_eq!(groups, TENSOR_GROUPS, "a group of Tensor without an example, or with two");
    let text = header("dlbridge.hpp");
    assert_eq!(text.matches("/// @name ").count(), groups, "a group of Tensor has no example");
    let declared: Vec<_> = examples.iter().filter(|example| !example.begins_group).collect();
    for (example, name) in declared.iter().zip(CPP_DECLARATIONS) {
        let line = text.lines().skip_while(|line| *line != example.declaration);
        let declaration = line.take(2).collect::<String>(); // `template` may have a line of its own
        assert!(declaration.contains(name), "{name}: {declaration}");
    }
    assert_eq!(declared.len(), CPP_DECLARATIONS.len());
    require_known_declarations(&text);
    let source = program("dlbridge.hpp", CPP_BEGIN, &examples);
    for standard in programs::CPP_STANDARDS {
        let program = Program::new("examples-cpp", standard, &[]).arguments([&source]);
        succeed(&mut program.sanitized(Link::Static));
    }
}

/// Every documented declaration outside classes and `detail` is in one of the lists above.
fn require_known_declarations(text: &str) {
    let mut in_detail = false;
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(3) {
        match pair[0] {
            "namespace detail {" => in_detail = true,
            "} // namespace detail" => in_detail = false,
            _ => {}
        }
        if in_detail || !pair[0].starts_with("///") || pair[1].starts_with("///") {
            continue;
        }
        let declaration = format!("{}{}", pair[1], pair[2]);
        let known = CPP_DECLARATIONS.iter().chain(&CPP_WITHOUT_EXAMPLE);
        assert!(
            known.into_iter().any(|name| declaration.contains(name)),
            "{declaration}: it has no example"
        );
    }
}

#[test]
fn the_example_of_mdspan_hpp_runs() {
    let examples = examples("dlbridge/mdspan.hpp", "cpp");
    assert_eq!(examples.len(), 1, "dlbridge/mdspan.hpp");
    let source = program("dlbridge/mdspan.hpp", CPP_BEGIN, &examples);
    match programs::with_mdspan("examples-mdspan", &[]) {
        Some(program) => {
            succeed(&mut Command::new(program.arguments([source]).link(Link::Shared)));
        }
        None => skipped("the example of dlbridge/mdspan.hpp", programs::NO_MDSPAN),
    }
}

#[test]
fn the_examples_of_torch_hpp_run() {
    let examples = examples("dlbridge/torch.hpp", "cpp");
    for (example, function) in examples.iter().zip(["from_torch(", "into_torch("]) {
        assert!(example.declaration.contains(function), "{}", example.declaration);
    }
    assert_eq!(examples.len(), 2, "dlbridge/torch.hpp");
    let source = program("dlbridge/torch.hpp", "#include <dlbridge/torch.hpp>", &examples);
    torch::run("examples-torch", &source);
}
