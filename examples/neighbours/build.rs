//! Selects the sections of docs/neighbours.md that this package tests, and says where libtorch is.

#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::path::Path;

/// The sections that the package `slow-neighbours` tests. `neighbours` tests the others.
const SLOW: [&str; 4] = ["burn", "candle", "cudarc", "faer"];

/// Sections whose blocks run if a variable is set, and are only compiled otherwise: it names the
/// library of ONNX Runtime, or the folder of a CUDA driver.
const RUN_WITH: [(&str, &str); 2] = [("cudarc", "DLBRIDGE_FAKE_CUDA"), ("ort", "ORT_DYLIB_PATH")];

fn main() {
    let is_slow = env::var("CARGO_PKG_NAME").is_ok_and(|name| name == "slow-neighbours");
    let guide = Path::new(if is_slow { "../../.." } else { "../.." }).join("docs/neighbours.md");
    println!("cargo::rerun-if-changed={}", guide.display());
    for (_, variable) in RUN_WITH {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if let Ok(libtorch) = env::var("DEP_DLBRIDGE_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{libtorch}");
    }
    let guide = fs::read_to_string(guide).expect("the guide is in the repository");
    let sections = guide.split("\n## ");
    let tested = sections.filter(|section| SLOW.contains(&crate_of(section)) == is_slow);
    let tested: Vec<_> = tested.map(as_it_runs).collect();
    assert!(tested.len() >= SLOW.len(), "sections are missing");
    let folder = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&folder).join("tested.md"), tested.join("\n## "))
        .expect("a folder of cargo");
}

/// The crate that a section is about: its heading.
fn crate_of(section: &str) -> &str {
    section.lines().next().unwrap_or_default()
}

fn as_it_runs(section: &str) -> String {
    let variable = RUN_WITH.iter().find(|(name, _)| *name == crate_of(section));
    if variable.is_some_and(|(_, variable)| env::var_os(variable).is_none()) {
        return section.replace("```rust\n", "```rust,no_run\n");
    }
    section.to_owned()
}
