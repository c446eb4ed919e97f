//! Says where libtorch is, so that the program finds it when it starts. Cargo tells only direct
//! dependents of dlbridge, so this script reads the variable that the build of tch reads.

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let libtorch = std::env::var("LIBTORCH").expect("LIBTORCH is the folder of libtorch");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
}
