//! Rewrites the links of a Markdown file, so that they hold on the site.
//!
//! A link to a Markdown file of the book leads to its page. A link to a source file that a
//! reference describes leads to the page of the reference. Pictures are copied. Every other file or
//! folder is one of the repository, whose address the link becomes. A link to a file that git does
//! not know is an error.

use std::collections::BTreeSet;

use super::pages::Page;
use super::paths::{relative, resolved};
use crate::Outcome;

/// Source files with a page in a reference, and the page.
const REFERENCES: [(&str, &str); 5] = [
    ("src/lib.rs", "reference/rust/dlbridge/index.html"),
    ("pyo3/src/lib.rs", "reference/rust/dlbridge_pyo3/index.html"),
    ("include/dlbridge.h", "reference/c/dlbridge_8h.html"),
    ("include/dlbridge.hpp", "reference/c/dlbridge_8hpp.html"),
    ("python/package/dlbridge/__init__.pyi", "reference/python.html"),
];

/// What links are resolved with.
pub(super) struct Links<'a> {
    pub(super) pages: Vec<&'a Page>,
    /// Every file that git knows.
    pub(super) tracked: &'a [String],
    /// The address of the repository.
    pub(super) repository: &'a str,
    /// The pictures that pages show, relative to the repository.
    pub(super) pictures: BTreeSet<String>,
}

impl Links<'_> {
    /// Rewrites the links of `text`, which is the file `source`.
    pub(super) fn rewrite(&mut self, source: &str, text: &str) -> Outcome<String> {
        let mut lines = Vec::new();
        let mut is_code = false;
        for line in text.split('\n') {
            is_code ^= line.trim_start().starts_with("```");
            lines.push(if is_code { line.to_owned() } else { self.rewrite_line(source, line)? });
        }
        Ok(lines.join("\n"))
    }

    /// Rewrites the links of a line that is not code. A link's target never goes over two lines.
    fn rewrite_line(&mut self, source: &str, line: &str) -> Outcome<String> {
        let mut parts = line.split("](");
        let mut rewritten = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let Some((link, rest)) = part.split_once(')') else {
                return Err(format!("{source}: a link does not end in its line: {line}").into());
            };
            let target = self.target(source, link)?;
            // A cell of a table shows the title of the page instead of the name of its file.
            if let (Some((before, text)), Some(title)) = (rewritten.rsplit_once('['), &target.title)
                && Some(text) == link.split('#').next()
                && before.ends_with("| ")
                && rest.starts_with(" |")
            {
                rewritten = format!("{before}[{title}");
            }
            rewritten += &format!("]({}){rest}", target.address);
        }
        Ok(rewritten)
    }

    /// What a link of the file `source` becomes.
    fn target(&mut self, source: &str, link: &str) -> Outcome<Target> {
        let plain = |address: String| Ok(Target { address, title: None });
        if link.contains("://") || link.starts_with('#') {
            return plain(link.to_owned());
        }
        let (path, anchor) = link.split_at(link.find('#').unwrap_or(link.len()));
        let file = resolved(source, path).ok_or("a link leaves the repository");
        let file = file.map_err(|error| format!("{source}: {link}: {error}"))?;
        if let Some(page) = self.pages.iter().find(|page| page.source == file) {
            let address = relative(source, &page.address()) + anchor;
            return Ok(Target { address, title: Some(page.title.clone()) });
        }
        if let Some((_, page)) = REFERENCES.iter().find(|(source, _)| *source == file) {
            return plain(relative(source, page));
        }
        if self.tracked.contains(&file) {
            if file.ends_with(".svg") {
                self.pictures.insert(file);
                return plain(link.to_owned());
            }
            return plain(format!("{}/blob/main/{file}{anchor}", self.repository));
        }
        let folder = format!("{file}/");
        if self.tracked.iter().any(|tracked| tracked.starts_with(&folder)) {
            return plain(format!("{}/tree/main/{file}", self.repository));
        }
        Err(format!("{source} has a link to {link}, which git does not know").into())
    }
}

struct Target {
    address: String,
    /// The title of the page, if the link leads to one.
    title: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::pages;

    fn rewritten(source: &str, text: &str) -> Outcome<(String, BTreeSet<String>)> {
        let groups = pages::groups()?;
        let tracked = ["src/lib.rs", "examples/c/a.c", "docs/charts/a.svg", "docs/rust.md"];
        let mut links = Links {
            pages: groups.iter().flat_map(|group| &group.pages).collect(),
            tracked: &tracked.map(str::to_owned),
            repository: "https://host/us",
            pictures: BTreeSet::new(),
        };
        Ok((links.rewrite(source, text)?, links.pictures))
    }

    #[test]
    fn links_lead_to_pages_references_and_the_repository() -> Outcome {
        for (source, text, expected) in [
            ("README.md", "[a](docs/rust.md#x).", "[a](docs/rust.html#x)."),
            ("README.md", "| [docs/rust.md](docs/rust.md) |", "| [Rust](docs/rust.html) |"),
            ("README.md", "[docs/rust.md](docs/rust.md#x)", "[docs/rust.md](docs/rust.html#x)"),
            ("docs/rust.md", "[a](../README.md)", "[a](../index.html)"),
            ("docs/rust.md", "[a](cpp.md) [b](#c)", "[a](cpp.html) [b](#c)"),
            ("docs/rust.md", "[a](benchmarks/README.md)", "[a](benchmarks/index.html)"),
            ("docs/rust.md", "[a](../src/lib.rs)", "[a](../reference/rust/dlbridge/index.html)"),
            ("docs/rust.md", "[a](../examples/c)", "[a](https://host/us/tree/main/examples/c)"),
            (
                "docs/rust.md",
                "[a](../examples/c/a.c#L3)",
                "[a](https://host/us/blob/main/examples/c/a.c#L3)",
            ),
            ("README.md", "[a](https://docs.rs/x)", "[a](https://docs.rs/x)"),
            ("README.md", "```cpp\n[](int x) {}\n```", "```cpp\n[](int x) {}\n```"),
        ] {
            assert_eq!(rewritten(source, text)?.0, expected);
        }
        Ok(())
    }

    #[test]
    fn pictures_are_copied() -> Outcome {
        let (text, pictures) = rewritten("docs/rust.md", "![a](charts/a.svg)")?;
        assert_eq!(text, "![a](charts/a.svg)");
        assert!(pictures.contains("docs/charts/a.svg"));
        Ok(())
    }

    #[test]
    fn links_that_lead_nowhere_are_errors() {
        for link in ["[a](gone.md)", "[a](../../x)", "[a](docs/", "[a](examples/c/b.c)"] {
            assert!(rewritten("docs/rust.md", link).is_err(), "{link}");
        }
    }
}
