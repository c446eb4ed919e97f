//! The reference of the Rust crates, which rustdoc makes.

use std::fs;
use std::path::Path;

use crate::{Outcome, cargo, root, run};

/// The folder of the reference in the site.
const FOLDER: &str = "reference/rust";
/// All features, as docs.rs builds: `doc-only` is `torch` without libtorch.
const FEATURES: &str = "cuda,doc-only,ndarray-0_16,safetensors,serde";
/// Leads from each page to the start of the site.
const LINK: &str = "xtask/templates/site/rustdoc.html";
const REPLACED: &str = "<!DOCTYPE html><title>References</title>\
                        <meta http-equiv=\"refresh\" content=\"0;URL=../index.html\">\n";

/// Builds the documentation of the crates in `target/doc`, without warnings.
pub(crate) fn build() -> Outcome {
    let folder = root().join("target/doc");
    if folder.exists() {
        // cargo leaves documentation of other crates and features there, and takes it for new.
        fs::remove_dir_all(folder)?;
    }
    for selection in [["--features", FEATURES], ["--package", "dlbridge-pyo3"]] {
        let mut doc = cargo(&["doc", "--no-deps"]);
        let flags = ["--deny", "warnings", "--html-before-content", LINK];
        run(doc.args(selection).env("CARGO_ENCODED_RUSTDOCFLAGS", flags.join("\x1f")))?;
    }
    Ok(())
}

/// Builds the reference and copies it into the site.
pub(super) fn make(site: &Path) -> Outcome {
    build()?;
    let folder = site.join(FOLDER);
    copied(&root().join("target/doc"), &folder)?;
    // rustdoc's pages for help and settings lead to a list of crates.
    Ok(fs::write(folder.join("index.html"), REPLACED)?)
}

/// Copies a folder with everything in it.
fn copied(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let copy = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copied(&path, &copy)?;
        } else {
            fs::copy(path, copy)?;
        }
    }
    Ok(())
}
