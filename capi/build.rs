//! Sets how the shared library is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if matches!(os.as_str(), "linux" | "android" | "freebsd" | "netbsd" | "openbsd" | "dragonfly") {
        // Does not export the `#[no_mangle]` functions of dependencies.
        println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
        // Deleters may run after `dlclose`, so the library is never unloaded. Linkers of macOS and
        // Windows have no such option: docs/cpp.md says what follows from that.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
