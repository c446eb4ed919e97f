//! What the pages of our packages show on crates.io and PyPI: `cargo xtask check` looks whether it
//! is complete, whether the links of README files lead somewhere, and whether our packages ask for
//! each other's present version.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::command::{files, output};
use crate::{Outcome, cargo, root};

/// The page of the Python package.
const PYTHON_README: &str = "python/README.md";

/// What crates.io shows about a package.
const FIELDS: [&str; 8] = [
    "description",
    "license",
    "repository",
    "homepage",
    "documentation",
    "readme",
    "keywords",
    "categories",
];

/// Fails if a published package lacks a field, has a README with a link that leads nowhere, or asks
/// for another version of a package of ours.
pub(crate) fn check() -> Outcome {
    let metadata: Value = serde_json::from_str(&output(&mut cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
    ]))?)?;
    let tracked = files(&[])?;
    let mut faults = Vec::new();
    let mut repository = String::new();
    for package in metadata["packages"].as_array().into_iter().flatten().filter(is_published) {
        let name = package["name"].as_str().unwrap_or_default();
        for field in FIELDS.iter().filter(|field| is_empty(&package[**field])) {
            faults.push(format!("{name} has no {field}"));
        }
        for other in other_versions(package) {
            faults.push(format!("{name} depends on {other}"));
        }
        repository = package["repository"].as_str().unwrap_or_default().to_owned();
        let listed =
            output(&mut cargo(&["package", "--list", "--allow-dirty", "--package", name]))?;
        let packaged: Vec<&str> = listed.lines().collect();
        let folder = Path::new(package["manifest_path"].as_str().unwrap_or_default()).parent();
        let readme = fs::read_to_string(folder.unwrap_or(&root()).join("README.md"))?;
        for link in dead_links(&readme, &repository, &packaged, &tracked) {
            faults.push(format!("the README of {name} has a link to {link}"));
        }
    }
    // PyPI shows no file of the repository, so all of its links are addresses.
    let readme = fs::read_to_string(root().join(PYTHON_README))?;
    for link in dead_links(&readme, &repository, &[], &tracked) {
        faults.push(format!("{PYTHON_README} has a link to {link}"));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

/// Whether a package may be published.
fn is_published(package: &&Value) -> bool {
    package["publish"].as_array().is_none_or(|registries| !registries.is_empty())
}

/// The dependencies on packages of ours, by their folder, that ask for another version than that of
/// `package`: all of our packages have the same.
fn other_versions(package: &Value) -> Vec<String> {
    let present = format!("^{}", package["version"].as_str().unwrap_or_default());
    let mut found = Vec::new();
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let requirement = dependency["req"].as_str().unwrap_or_default();
        // A dependency of tests, which is not published, may have no version.
        if dependency["path"].is_string() && dependency["kind"].is_null() && requirement != present
        {
            let name = dependency["name"].as_str().unwrap_or_default();
            found.push(format!("{name} {requirement}, not {present}"));
        }
    }
    found
}

fn is_empty(field: &Value) -> bool {
    match field {
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => true,
    }
}

/// The links of a README that lead nowhere: relative ones to files that are not packaged, and
/// addresses in our repository of files that git does not know.
fn dead_links<'a>(
    readme: &'a str,
    repository: &str,
    packaged: &[&str],
    tracked: &[String],
) -> Vec<&'a str> {
    let in_repository = format!("{repository}/blob/main/");
    let leads_nowhere = |link: &&str| {
        let target = link.split('#').next().unwrap_or_default();
        if let Some(path) = target.strip_prefix(&in_repository) {
            return !tracked.iter().any(|file| file == path);
        }
        let is_elsewhere = target.is_empty() || target.contains("://");
        // A folder is shown where one of its files is packaged.
        !is_elsewhere && !packaged.iter().any(|file| file == &target || file.starts_with(target))
    };
    links(readme).into_iter().filter(leads_nowhere).collect()
}

/// The targets of the links in a Markdown file, outside of blocks of code.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for prose in text.split("\n```").step_by(2) {
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        found.extend(targets);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let readme = "[a](docs/a.md#part) [b](docs/b.md) [c](examples/) [d](#here)\n\
                      ```rust\nlet x = [y](z);\n```\n\
                      [e](https://docs.rs/x) [f](https://host/us/blob/main/docs/b.md)\n\
                      [g](https://host/us/blob/main/docs/c.md#part)";
        let packaged = ["docs/a.md", "examples/one.rs"];
        let tracked = ["docs/a.md", "docs/b.md"].map(str::to_owned);
        let dead = dead_links(readme, "https://host/us", &packaged, &tracked);
        assert_eq!(dead, ["docs/b.md", "https://host/us/blob/main/docs/c.md#part"]);
    }

    #[test]
    fn dependencies_on_other_versions_of_our_packages_are_found() {
        let ours = |req: &str, kind: &str| {
            format!(r#"{{"name": "core", "path": "/core", "req": "{req}", "kind": {kind}}}"#)
        };
        let dependencies = [
            ours("^0.1.0", "null"),
            ours("^0.1.1", "null"),
            ours("*", "\"dev\""),
            r#"{"name": "serde", "req": "^1", "kind": null}"#.to_owned(),
        ];
        let json =
            format!(r#"{{"version": "0.1.1", "dependencies": [{}]}}"#, dependencies.join(", "));
        let package: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(other_versions(&package), ["core ^0.1.0, not ^0.1.1"]);
    }

    #[test]
    fn fields_without_a_value_are_empty() {
        for (json, empty) in [("null", true), ("[]", true), ("\"\"", true), ("[\"x\"]", false)] {
            let field: Value = serde_json::from_str(json).expect("JSON");
            assert_eq!(is_empty(&field), empty, "{json}");
        }
    }
}
