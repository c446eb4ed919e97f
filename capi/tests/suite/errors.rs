//! The texts of errors in C and C++, as `docs/errors.md` has them.

use std::process::Command;

use crate::support::{Link, Program, libtorch, output_of, root, skipped};
use errors_page::{Lines, compare};

#[path = "../../../tests/support/errors_page.rs"]
mod errors_page;

/// What a program printed: sections and texts.
fn texts(program: &mut Command) -> Vec<(String, String)> {
    let printed = output_of(program);
    let pairs = printed.lines().map(|line| line.split_once('\t').expect("a section and a text"));
    pairs.map(|(section, text)| (section.to_owned(), text.to_owned())).collect()
}

#[test]
fn the_page_has_the_texts_of_c_and_cpp() {
    let page = root().join("docs/errors.md");
    let c = Program::new("errors", "c11", &["c/errors.c"]);
    let c = texts(&mut Command::new(c.link(Link::Shared)));
    for (section, text) in &c {
        for foreign in ["deep_clone", "::", "to_vec", "Tensor."] {
            assert!(!text.contains(foreign), "{section}: {text}");
        }
    }
    compare(&page, "C", &c, Lines::All);
    let cpp = Program::new("errors", "c++17", &["cpp/errors.cpp"]);
    let mut cpp = texts(&mut Command::new(cpp.link(Link::Shared)));
    let mut lines = Lines::Some;
    if let Some(libtorch) = libtorch() {
        let source = root().join("capi/tests/cpp/errors_torch.cpp");
        let program = crate::torch::program("errors-torch", &source, &libtorch);
        cpp.extend(texts(&mut Command::new(program.link(Link::Shared))));
        lines = Lines::All;
    } else {
        skipped("errors of dlbridge/torch.hpp", "there is no libtorch (`cargo xtask setup`)");
    }
    for (section, text) in &cpp {
        for foreign in ["deep_clone", "dlb_", "to_vec()", "Tensor."] {
            assert!(!text.contains(foreign), "{section}: {text}");
        }
    }
    compare(&page, "C++", &cpp, lines);
}
