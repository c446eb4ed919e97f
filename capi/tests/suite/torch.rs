//! libtorch tensors through `dlbridge/torch.hpp`, in C++, where there is a libtorch.

use std::path::Path;

use crate::support::{Link, Program, block, libtorch, root, scratch, skipped, succeed};

/// A C++ program to compile against libtorch.
pub(crate) fn program(name: &str, source: &Path, libtorch: &Path) -> Program {
    let (include, library) = (libtorch.join("include"), libtorch.join("lib"));
    let arguments = [
        source.display().to_string(),
        format!("-isystem{}", include.display()),
        format!("-isystem{}", include.join("torch/csrc/api/include").display()),
        format!("-I{}", root().join("capi/tests/cpp").display()),
        format!("-L{}", library.display()),
        format!("-Wl,-rpath,{}", library.display()),
    ];
    // Libraries follow the sources that need them.
    let libraries = ["-ltorch", "-ltorch_cpu", "-lc10"];
    Program::new(name, "c++20", &[]).arguments(arguments).arguments(libraries)
}

/// Compiles a program against libtorch, with sanitizers, and runs it. The program prints nothing,
/// but libtorch may print deprecation warnings.
fn run(name: &str, source: &Path, libtorch: &Path) {
    succeed(&mut program(name, source, libtorch).sanitized(Link::Shared));
}

#[test]
fn torch_hpp_converts_tensors() {
    match libtorch() {
        Some(libtorch) => run("torch", &root().join("capi/tests/cpp/torch.cpp"), &libtorch),
        None => skipped("dlbridge/torch.hpp", "there is no libtorch (`cargo xtask setup`)"),
    }
}

#[test]
fn the_readme_cpp_example_compiles_and_runs() {
    let Some(libtorch) = libtorch() else {
        skipped("the README's C++", "there is no libtorch (`cargo xtask setup`)");
        return;
    };
    let page = std::fs::read_to_string(root().join("README.md")).expect("the page");
    let (block, _) = block(&page, "cpp");
    let (include, rest) = block.split_once('\n').expect("an include and more");
    let source = scratch("readme-cpp").join("readme.cpp");
    let program = format!(
        "#include <ATen/ATen.h>\n{include}\n#include \"check.hpp\"\nint main() {{\n\
         const int64_t rows = 2, columns = 3; std::vector<float> values{{0, 1, 2, 3, 4, 5}};\n\
         {rest}CHECK(copy == (std::vector<float>{{0, 3, 1, 4, 2, 5}})); return 0; }}\n"
    );
    std::fs::write(&source, program).expect("written");
    run("readme", &source, &libtorch);
}
