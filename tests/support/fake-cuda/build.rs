//! Names the library as the driver's is named, and compiles the GPU's kernels for the host.

/// The source of the kernels, from this package's folder.
const KERNELS: &str = "../../../src/cuda/strided_copy.cu";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/kernels.cpp");
    println!("cargo::rerun-if-changed={KERNELS}");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");
    cc::Build::new()
        .cpp(true)
        .cpp_link_stdlib(None)
        .std("c++17")
        .opt_level(2)
        .flag("-fno-exceptions")
        .flag("-Wno-unknown-pragmas") // the GPU compiler's
        .include(".")
        .define("KERNELS", format!("\"{KERNELS}\"").as_str())
        .file("src/kernels.cpp")
        .compile("dlbridge_fake_cuda_kernels");
}
