//! `cargo xtask examples`: counts the public types and functions whose documentation has an example
//! that runs, in each crate that is published. Fails if a type has none, or if fewer than 80 % of
//! the functions have one.
//!
//! Types are structs, enums, unions, traits and type aliases; functions are free functions and the
//! methods of these types. The list comes from rustdoc's JSON, which is unstable, so rustdoc runs
//! with `RUSTC_BOOTSTRAP`. The module `ffi` is left out: its declarations are generated.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Outcome, cargo, root, run};

/// Minimum share of functions with an example, in percent.
const MIN_PERCENT: usize = 80;

/// The crates whose examples are counted: package, features, and the name of rustdoc's file.
const CRATES: [(&str, &str, &str); 2] = [
    ("dlbridge", "doc-only,cuda,safetensors", "dlbridge.json"),
    ("dlbridge-pyo3", "ndarray", "dlbridge_pyo3.json"),
];

/// Counts the examples of each crate.
pub(crate) fn check() -> Outcome {
    let folder = root().join("target/rustdoc-json");
    std::fs::create_dir_all(&folder)?;
    let rustdoc = rustdoc_with_unstable_options(&folder)?;
    CRATES
        .into_iter()
        .try_for_each(|(package, features, file)| check_crate(&rustdoc, package, features, file))
}

fn check_crate(rustdoc: &Path, package: &str, features: &str, file: &str) -> Outcome {
    let mut command = cargo(&["rustdoc", "--lib", "--package", package, "--features", features]);
    command.arg("--target-dir").arg(root().join("target"));
    command.args(["--", "-Zunstable-options", "--output-format=json"]);
    // The variable is for rustdoc only: for rustc it would compile all dependencies again.
    run(command.env("RUSTDOC", rustdoc))?;
    let text = std::fs::read_to_string(root().join("target/doc").join(file))?;
    let json: Value = serde_json::from_str(&text)?;
    let mut found = Items::default();
    found.visit(&json["index"], &json["root"], "");
    println!("{package}");
    let types = report("types", &found.types);
    let functions = report("functions", &found.functions);
    if types == 0 && functions * 100 <= found.functions.len() * (100 - MIN_PERCENT) {
        return Ok(());
    }
    Err(format!("all types and {MIN_PERCENT} % of the functions must have an example").into())
}

/// Writes a program that runs rustdoc with unstable options; returns its path.
fn rustdoc_with_unstable_options(folder: &Path) -> Outcome<PathBuf> {
    let program = folder.join("rustdoc");
    std::fs::write(&program, "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n")?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

/// Prints the number of items with an example and the names of those without one; returns the
/// number of the latter.
fn report(what: &str, items: &[Item]) -> usize {
    let without: Vec<&str> =
        items.iter().filter(|item| !item.has_example).map(|item| item.name.as_str()).collect();
    println!("{what} with an example: {} of {}", items.len() - without.len(), items.len());
    if !without.is_empty() {
        println!("  without: {}", without.join(", "));
    }
    without.len()
}

struct Item {
    name: String,
    has_example: bool,
}

/// The public items of a crate.
#[derive(Default)]
struct Items {
    types: Vec<Item>,
    functions: Vec<Item>,
    seen: HashSet<u64>,
}

impl Items {
    /// Adds the item with this number, and the public items in it, under the name of `parent`.
    fn visit(&mut self, index: &Value, id: &Value, parent: &str) {
        let Some(id) = id.as_u64().filter(|&id| self.seen.insert(id)) else { return };
        let item = &index[id.to_string()];
        let Some((kind, inner)) = item["inner"].as_object().and_then(|inner| inner.iter().next())
        else {
            return;
        };
        let own = item["name"].as_str().unwrap_or_default();
        let name = if parent.is_empty() { own.to_owned() } else { format!("{parent}::{own}") };
        let has_example = item["docs"].as_str().is_some_and(has_example);
        match kind.as_str() {
            "module" if own != "ffi" => self.visit_all(index, &inner["items"], ""),
            "use" if item["visibility"] == "public" => self.visit(index, &inner["id"], parent),
            "function" => self.functions.push(Item { name, has_example }),
            "struct" | "enum" | "union" | "trait" | "type_alias" => {
                self.types.push(Item { name: name.clone(), has_example });
                self.visit_all(index, &inner["items"], &name); // those of a trait
                for id in inner["impls"].as_array().into_iter().flatten() {
                    let inner = &index[id.to_string()]["inner"]["impl"];
                    if inner["trait"].is_null() {
                        self.visit_all(index, &inner["items"], &name);
                    }
                }
            }
            _ => {}
        }
    }

    fn visit_all(&mut self, index: &Value, ids: &Value, parent: &str) {
        for id in ids.as_array().into_iter().flatten() {
            self.visit(index, id, parent);
        }
    }
}

/// Returns true if a block of code in Rust opens in `docs` that the documentation tests run.
fn has_example(docs: &str) -> bool {
    let mut fences = docs.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
    let mut runs = false;
    // Every second fence closes a block.
    while let Some(language) = fences.next() {
        runs |= matches!(language.trim(), "" | "rust");
        fences.next();
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_examples_that_run_count() {
        for (docs, runs) in [
            ("Text.\n\n```\nf();\n```", true),
            ("```no_run\nf();\n```", false),
            ("```text\na\n```\n```rust\nf();\n```", true),
        ] {
            assert_eq!(has_example(docs), runs, "{docs}");
        }
    }

    #[test]
    fn types_and_methods_are_found_through_reexports() {
        let json = serde_json::json!({ "root": 0, "index": {
            "0": { "name": "a", "inner": { "module": { "items": [1, 2] } } },
            "1": { "name": "ffi", "inner": { "module": { "items": [3] } } },
            "2": { "visibility": "public", "inner": { "use": { "id": 3 } } },
            "3": { "name": "S", "docs": "```\n```", "inner": { "struct": { "impls": [4, 5] } } },
            "4": { "inner": { "impl": { "trait": null, "items": [6] } } },
            "5": { "inner": { "impl": { "trait": { "path": "Clone" }, "items": [7] } } },
            "6": { "name": "f", "docs": "", "inner": { "function": {} } },
            "7": { "name": "clone", "inner": { "function": {} } },
        }});
        let mut found = Items::default();
        found.visit(&json["index"], &json["root"], "");
        let items = found.types.iter().chain(&found.functions);
        let items: Vec<_> = items.map(|item| (item.name.as_str(), item.has_example)).collect();
        assert_eq!(items, [("S", true), ("S::f", false)]);
    }
}
