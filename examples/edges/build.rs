//! Says where libtorch is, so that the program finds it when it runs.

fn main() {
    let libtorch = std::env::var("DEP_DLBRIDGE_LIBTORCH_LIB").expect("dlbridge is a dependency");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{libtorch}");
}
