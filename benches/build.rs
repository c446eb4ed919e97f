//! Compiles the C++ sources against the libtorch that dlbridge found.

use std::env;
use std::path::PathBuf;

fn main() {
    let Some(library) = env::var_os("DEP_DLBRIDGE_LIBTORCH_LIB").map(PathBuf::from) else {
        panic!("dlbridge does not say where libtorch is");
    };
    let include = library.parent().map(|folder| folder.join("include")).unwrap_or_default();
    let sources = ["src/baseline.cpp", "src/hostile.cpp"];
    for source in sources.iter().chain(&["../tests/support/odd_tensors.hpp"]) {
        println!("cargo::rerun-if-changed={source}");
    }
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .opt_level(3)
        .flag(format!("-isystem{}", include.display()))
        .flag(format!("-isystem{}", include.join("torch/csrc/api/include").display()))
        .files(sources)
        .compile("dlbridge_baseline");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", library.display());
}
