//! libtorch tensors through `dlbridge/torch.hpp`, in C++, where there is a libtorch.

mod support;

use std::process::Command;

use support::{Link, Program, libtorch, root, skipped, succeed};

#[test]
fn torch_hpp() {
    let Some(libtorch) = libtorch() else {
        skipped("dlbridge/torch.hpp", "there is no libtorch (`cargo xtask setup`)");
        return;
    };
    let (include, library) = (libtorch.join("include"), libtorch.join("lib"));
    let arguments = [
        format!("-isystem{}", include.display()),
        format!("-isystem{}", include.join("torch/csrc/api/include").display()),
        format!("-I{}", root().join("tests/cpp").display()),
        format!("-L{}", library.display()),
        format!("-Wl,-rpath,{}", library.display()),
    ];
    // Libraries come behind the sources that need them.
    let libraries = ["-ltorch", "-ltorch_cpu", "-lc10"];
    let program =
        Program::new("torch", "c++20", &["cpp/torch.cpp"]).arguments(arguments).arguments(libraries);
    // It says nothing of its own, but libtorch warns of what it finds old.
    succeed(&mut Command::new(program.link(Link::Shared)));
}
