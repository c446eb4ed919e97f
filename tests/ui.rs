//! Programs that must not compile: views that outlive their owner, two writers, and types that
//! dlbridge cannot convert. The expected messages are in the `.stderr` files.

// The programs need no libtorch, and are not run: once, in a debug build without it, is enough.
#![cfg(all(not(feature = "torch"), debug_assertions))]

#[test]
fn misuse_does_not_compile() {
    let rustc = std::process::Command::new("rustc").arg("--version").output().expect("rustc");
    if !String::from_utf8_lossy(&rustc.stdout).contains("1.95.") {
        eprintln!("skipped: the expected messages are those of rustc 1.95");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
