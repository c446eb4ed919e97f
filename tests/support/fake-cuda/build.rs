//! Names the library as the driver's is named, and builds the GPU's kernels for the host.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/gather.cpp");
    println!("cargo::rerun-if-changed=../../../src/cuda/gather.cu");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");
    cc::Build::new()
        .cpp(true)
        .cpp_link_stdlib(None)
        .std("c++17")
        .opt_level(2)
        .flag("-fno-exceptions")
        .flag("-Wno-unknown-pragmas") // the GPU compiler's
        .file("src/gather.cpp")
        .compile("dlbridge_standin_gather");
}
