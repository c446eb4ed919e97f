//! Programs that must not compile: views that outlive their owner, two writers, and types that
//! dlbridge cannot convert. The expected messages are in the `.stderr` files in `programs/`.
//!
//! This is a package of its own because trybuild compiles all dependencies of its package again.

#![forbid(unsafe_code)]

#[cfg(test)]
#[test]
fn misuse_does_not_compile() {
    let rustc = std::process::Command::new("rustc").arg("--version").output().expect("rustc");
    if !String::from_utf8_lossy(&rustc.stdout).contains("1.95.") {
        eprintln!("skipped: the expected messages are those of rustc 1.95");
        return;
    }
    trybuild::TestCases::new().compile_fail("programs/*.rs");
}
