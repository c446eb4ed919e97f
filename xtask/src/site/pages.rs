//! The pages of the site that come from Markdown files, and their order in the navigation.

use std::fs;

use crate::command::files;
use crate::{Outcome, root};

/// A page that is made of a Markdown file of the repository.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Page {
    /// The file, relative to the repository.
    pub(super) source: String,
    /// What the navigation calls it.
    pub(super) title: String,
    /// Whether it is shown under the page before it.
    is_nested: bool,
}

/// A part of the navigation.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) pages: Vec<Page>,
}

/// The file that the first page is made of.
pub(super) const START: &str = "README.md";
/// The group that the references stand before: they are not made of Markdown files.
const AFTER_REFERENCES: &str = "Benchmarks";
/// The folder whose pages are found: one for each machine.
const BENCHMARKS: &str = "docs/benchmarks/";

/// A group's name, and its pages: title and file. A title that begins with a space is shown under
/// the page before it.
const GROUPS: [(&str, &[(&str, &str)]); 4] = [
    ("Start", &[("dlbridge", START), ("Examples", "examples/README.md")]),
    (
        "Guides",
        &[
            ("Rust", "docs/rust.md"),
            (" Other crates", "docs/neighbours.md"),
            ("C and C++", "docs/cpp.md"),
            ("Python", "docs/python.md"),
            (" Several processes", "docs/python-processes.md"),
            (" Extension modules", "docs/extension-modules.md"),
            ("CUDA", "docs/cuda.md"),
            ("Other runtimes", "docs/embedding.md"),
            ("Conformance kit", "docs/conformance.md"),
            ("Errors", "docs/errors.md"),
        ],
    ),
    (AFTER_REFERENCES, &[("How it is measured", "docs/benchmarks/README.md")]),
    (
        "Project",
        &[
            ("What is tested where", "docs/support.md"),
            ("Versions", "docs/versioning.md"),
            ("Changelog", "CHANGELOG.md"),
            ("Security", "SECURITY.md"),
            ("Contributing", "CONTRIBUTING.md"),
            (" Architecture", "docs/architecture.md"),
            (" The copy engine", "docs/copy-engine.md"),
            (" Fuzzing", "fuzz/README.md"),
            (" How to release", "docs/releasing.md"),
            ("Conduct", "CODE_OF_CONDUCT.md"),
        ],
    ),
];

/// The groups of the navigation. Fails if a guide is in none of them.
pub(super) fn groups() -> Outcome<Vec<Group>> {
    let mut groups: Vec<Group> = GROUPS
        .iter()
        .map(|&(name, pages)| Group {
            name,
            pages: pages.iter().map(|(title, source)| Page::new(title, source)).collect(),
        })
        .collect();
    let is_guide = |file: &String| file.starts_with("docs/") || !file.contains('/');
    for file in files(&["*.md"])?.into_iter().filter(is_guide) {
        if groups.iter().flat_map(|group| &group.pages).any(|page| page.source == file) {
            continue;
        }
        if !file.starts_with(BENCHMARKS) {
            return Err(format!("{file} is in no group of xtask/src/site/pages.rs").into());
        }
        let title = machine(&fs::read_to_string(root().join(&file))?);
        let benchmarks = groups.iter_mut().filter(|group| group.name == AFTER_REFERENCES);
        benchmarks.for_each(|group| group.pages.push(Page::new(&title, &file)));
    }
    Ok(groups)
}

/// The machine that a page of benchmarks is about: the end of its heading.
fn machine(text: &str) -> String {
    let heading = text.lines().next().unwrap_or_default().trim_start_matches("# ");
    heading.trim_start_matches("Benchmarks on ").to_owned()
}

impl Page {
    fn new(title: &str, source: &str) -> Self {
        let name = title.trim_start();
        Self {
            source: source.to_owned(),
            title: name.to_owned(),
            is_nested: name.len() < title.len(),
        }
    }

    /// The file in the book: that of the repository, but a folder opens with `index.md`.
    pub(super) fn in_book(&self) -> String {
        match self.source.strip_suffix("README.md") {
            Some(folder) => format!("{folder}index.md"),
            None => self.source.clone(),
        }
    }

    /// The page of the site, relative to its start.
    pub(super) fn address(&self) -> String {
        self.in_book().replace(".md", ".html")
    }
}

/// mdBook's list of pages. `references` are the lines between the guides and the benchmarks.
pub(super) fn summary(groups: &[Group], references: &str) -> String {
    let mut text = "# Summary\n".to_owned();
    for group in groups {
        if group.name == AFTER_REFERENCES {
            text += &format!("\n# Reference\n\n{references}");
        }
        text += &format!("\n# {}\n\n", group.name);
        for page in &group.pages {
            let indent = if page.is_nested { "  " } else { "" };
            text += &format!("{indent}- [{}]({})\n", page.title, page.in_book());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_group_is_there_once() -> Outcome {
        let groups = groups()?;
        let mut sources: Vec<_> =
            groups.iter().flat_map(|group| &group.pages).map(|page| &page.source).collect();
        for source in &sources {
            assert!(root().join(source).is_file(), "{source}");
        }
        let count = sources.len();
        sources.sort();
        sources.dedup();
        assert_eq!(sources.len(), count);
        assert!(sources.iter().any(|source| *source == "docs/benchmarks/intel-xeon.md"));
        Ok(())
    }

    #[test]
    fn a_folder_opens_with_its_readme() {
        for (source, address) in [
            ("README.md", "index.html"),
            ("docs/benchmarks/README.md", "docs/benchmarks/index.html"),
            ("docs/rust.md", "docs/rust.html"),
        ] {
            assert_eq!(Page::new("title", source).address(), address);
        }
    }

    #[test]
    fn references_stand_before_the_benchmarks() {
        let group = |name, pages: &[(&str, &str)]| Group {
            name,
            pages: pages.iter().map(|(title, source)| Page::new(title, source)).collect(),
        };
        let groups = [
            group("Guides", &[("Rust", "docs/rust.md"), (" Crates", "docs/crates.md")]),
            group("Benchmarks", &[("Method", "docs/benchmarks/README.md")]),
        ];
        let expected = "# Summary\n\n# Guides\n\n- [Rust](docs/rust.md)\n  - [Crates](docs/crates.md)\
                        \n\n# Reference\n\n- [C](c.md)\n\n# Benchmarks\n\n\
                        - [Method](docs/benchmarks/index.md)\n";
        assert_eq!(summary(&groups, "- [C](c.md)\n"), expected);
        assert_eq!(machine("# Benchmarks on AMD EPYC\n\nText"), "AMD EPYC");
    }
}
