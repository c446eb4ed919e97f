//! Tells the harnesses whether AddressSanitizer is in the process, so that they can poison memory.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(address_sanitizer)");
    println!("cargo::rustc-check-cfg=cfg(fuzzing)");
    let sanitizers = std::env::var("CARGO_CFG_SANITIZE").unwrap_or_default();
    if sanitizers.split(',').any(|sanitizer| sanitizer == "address") {
        println!("cargo::rustc-cfg=address_sanitizer");
    }
}
