//! The notices that the licences of third parties demand: which crates are linked into a package,
//! and the texts of their licences.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::output;
use crate::{Outcome, cargo, root};

/// Prints the notices of a package, for all platforms.
pub(crate) fn print(package: &str) -> Outcome {
    print!("{}", notices(package, "all")?);
    Ok(())
}

/// The notices of a package that is compiled for a target of Rust's, or for `all`.
pub(super) fn notices(package: &str, target: &str) -> Outcome<String> {
    let linked = linked(package, target)?;
    let metadata: Value = serde_json::from_str(&output(&mut cargo(&[
        "metadata",
        "--locked",
        "--format-version",
        "1",
    ]))?)?;
    let all = metadata["packages"].as_array().into_iter().flatten();
    let mut crates: Vec<_> = all
        .filter(|package| linked.contains(&(text(package, "name"), text(package, "version"))))
        // Our own have no source.
        .filter(|package| !package["source"].is_null())
        .map(ThirdParty::read)
        .collect::<Outcome<_>>()?;
    crates.push(ThirdParty::standard_library()?);
    Ok(written(package, &crates))
}

/// What is linked into a package.
struct ThirdParty {
    /// Name and version.
    name: String,
    address: String,
    /// The licences that a user may choose from, as SPDX expression.
    license: String,
    /// The texts of the licences under which we use it.
    texts: Vec<String>,
}

impl ThirdParty {
    /// Reads a package of `cargo metadata`, and its licences from its folder.
    fn read(package: &Value) -> Outcome<Self> {
        let name = format!("{} {}", text(package, "name"), text(package, "version"));
        let license = text(package, "license");
        let manifest = PathBuf::from(text(package, "manifest_path"));
        let mut files = license_files(manifest.parent().unwrap_or(&manifest))?;
        if license.split([' ', '/']).any(|choice| choice == "MIT") {
            // `LICENSE-MIT`, `license-mit` or `LICENSE-MIT.txt`.
            let is_mit = |file: &PathBuf| {
                let name = file.file_stem().unwrap_or_default().to_string_lossy();
                name.to_uppercase().ends_with("MIT")
            };
            if files.iter().any(is_mit) {
                files.retain(is_mit);
            }
        }
        let texts: Vec<_> = files.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
        if texts.is_empty() {
            return Err(format!("the package {name} has no text of its licence").into());
        }
        Ok(Self { name, address: text(package, "repository"), license, texts })
    }

    /// Rust's standard library, which every program contains.
    fn standard_library() -> Outcome<Self> {
        let ours = fs::read_to_string(root().join("LICENSE-MIT"))?;
        let (_, conditions) = ours.split_once("\n\nPermission").ok_or("LICENSE-MIT has changed")?;
        let license = format!(
            "MIT License\n\nCopyright (c) The Rust Project Contributors\n\nPermission{conditions}"
        );
        Ok(Self {
            name: "std, Rust's standard library".to_owned(),
            address: "https://github.com/rust-lang/rust; COPYRIGHT-library.html of a release \
                      lists the authors of its parts"
                .to_owned(),
            license: "MIT OR Apache-2.0".to_owned(),
            texts: vec![license],
        })
    }
}

/// Names and versions of the packages that are linked in.
fn linked(package: &str, target: &str) -> Outcome<BTreeSet<(String, String)>> {
    let mut tree = cargo(&["tree", "--locked", "--package", package, "--target", target]);
    tree.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]);
    let listed = output(&mut tree)?;
    let name = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    Ok(listed.lines().filter_map(name).collect())
}

/// The files with licences in the folder of a package, sorted.
fn license_files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let begins = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"];
    let is_license = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        path.is_file() && begins.iter().any(|begin| name.starts_with(begin))
    };
    let mut files: Vec<_> =
        entries.into_iter().map(|entry| entry.path()).filter(is_license).collect();
    files.sort();
    Ok(files)
}

/// The text of the notices: a list, and each text of a licence once.
fn written(package: &str, crates: &[ThirdParty]) -> String {
    let mut notices = format!(
        "{package} contains the following packages. Where they leave a choice of licences that has \
         the MIT licence,\nthey are used under that one. Each text of a licence names those that \
         it is for.\n\n"
    );
    let mut texts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for ThirdParty { name, address, license, texts: its } in crates {
        notices += &format!("* {name} ({license}), {address}\n");
        for text in its {
            texts.entry(text.trim()).or_default().push(name);
        }
    }
    let mut texts: Vec<_> = texts.into_iter().collect();
    texts.sort_by(|(_, a), (_, b)| a.cmp(b));
    for (text, names) in texts {
        notices += &format!("\n{}\n{}\n\n{text}\n", "=".repeat(80), names.join(", "));
    }
    notices
}

fn text(package: &Value, field: &str) -> String {
    package[field].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_names_what_it_contains() -> Outcome {
        let notices = notices("dlbridge-capi", "x86_64-unknown-linux-gnu")?;
        let has = |line: &str| notices.lines().any(|found| found.starts_with(line));
        assert!(has("* rayon-core 1.") && has("* libloading 0.") && has("* std, "), "{notices}");
        // Neither our own packages, nor those that only compile or that other packages need.
        assert!(!has("* dlbridge") && !has("* tch ") && !has("* pyo3"), "{notices}");
        Ok(())
    }

    #[test]
    fn a_text_of_two_packages_is_printed_once() {
        let third_party = |name: &str, texts: &[&str]| ThirdParty {
            name: name.to_owned(),
            address: String::new(),
            license: "MIT".to_owned(),
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        };
        let crates = [third_party("a 1", &["same\n"]), third_party("b 2", &["other", "same"])];
        let notices = written("p", &crates);
        assert_eq!(notices.matches("\nsame\n").count(), 1);
        assert!(notices.contains("\na 1, b 2\n\nsame\n") && notices.contains("\nb 2\n\nother\n"));
    }
}
