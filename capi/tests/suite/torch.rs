//! libtorch tensors through `dlbridge/torch.hpp`, in C++, where there is a libtorch.

use std::path::Path;

use crate::support::{Link, Program, libtorch, root, skipped, succeed};

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
