//! The build script refuses 32-bit targets with one sentence.

use std::env;
use std::path::Path;
use std::process::Command;

/// What the build script prints for a target whose addresses have this many bits.
fn printed_for(bits: &str) -> String {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("build-script-{bits}{}", env::consts::EXE_SUFFIX));
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut compile = Command::new(rustc);
    compile.args(["--edition=2024", "-o"]).arg(&script).arg(package.join("build.rs"));
    assert!(compile.status().expect("rustc").success());
    let output = Command::new(script).env("CARGO_CFG_TARGET_POINTER_WIDTH", bits).output();
    String::from_utf8(output.expect("it runs").stdout).expect("UTF-8")
}

#[test]
fn targets_of_32_bits_are_refused_with_one_sentence() {
    let refused = printed_for("32");
    let errors: Vec<_> = refused.lines().filter(|line| line.starts_with("cargo::error=")).collect();
    let sentence = "dlbridge needs a 64-bit target; addresses of this one have 32 bits";
    assert_eq!(errors, [format!("cargo::error={sentence}")]);
    assert!(!printed_for("64").contains("cargo::error"));
}
