//! libtorch tensors through `dlbridge/torch.hpp`, in C++, where there is a libtorch.

use std::path::{Path, PathBuf};

use crate::support::{Link, Program, libtorches, output_of, root, skipped};

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

/// Compiles a program against every libtorch, with sanitizers, and runs it; returns what each run
/// printed. The programs of several libtorches are compiled at the same time.
pub(crate) fn run(name: &str, source: &Path) -> Vec<String> {
    let libtorches = libtorches();
    if libtorches.is_empty() {
        skipped(name, "there is no libtorch (`cargo xtask setup`)");
    }
    std::thread::scope(|scope| {
        let run = |(index, libtorch): (usize, &PathBuf)| {
            let (name, libtorch) = (format!("{name}-{index}"), libtorch.clone());
            scope.spawn(move || {
                output_of(&mut program(&name, source, &libtorch).sanitized(Link::Shared))
            })
        };
        let running: Vec<_> = libtorches.iter().enumerate().map(run).collect();
        running.into_iter().map(|run| run.join().expect("the program runs")).collect()
    })
}

#[test]
fn torch_hpp_converts_tensors() {
    // libtorch may print deprecation warnings, to the standard error.
    for printed in run("torch", &root().join("capi/tests/cpp/torch.cpp")) {
        assert_eq!(printed, "");
    }
}
