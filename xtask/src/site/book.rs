//! The guides, the benchmarks and the Python reference, as a book of mdBook.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::markdown::Links;
use super::pages::{Page, groups, summary};
use crate::command::{files, output};
use crate::{Outcome, root, run, setup, template, tools};

const CONFIGURATION: &str = include_str!("../../templates/site/book.toml");
const STYLE: &str = include_str!("../../templates/site/site.css");
const REFERENCES: &str = include_str!("../../templates/site/references.md");
/// The pages of references that are in the book, as lines of its list of pages.
const REFERENCE_PAGES: &str =
    "- [Rust, C, C++, Python](reference/index.md)\n  - [The Python module](reference/python.md)\n";

/// The program that writes the reference of the Python module, and the module's stub.
const STUBS: [&str; 2] = ["xtask/templates/site/stubs.py", "python/package/dlbridge/__init__.pyi"];

/// Writes the source of the book to `work` and the book to `site`, which is replaced.
pub(super) fn make(site: &Path, work: &Path, repository: &str) -> Outcome {
    let mdbook = tools::mdbook()?;
    let groups = groups()?;
    let source = work.join("src");
    let tracked = files(&[])?;
    let mut links = Links {
        pages: groups.iter().flat_map(|group| &group.pages).collect(),
        tracked: &tracked,
        repository,
        pictures: BTreeSet::new(),
    };
    let pages: Vec<&Page> = links.pages.clone();
    for page in pages {
        let text = fs::read_to_string(root().join(&page.source))?;
        write(&source.join(page.in_book()), &links.rewrite(&page.source, &text)?)?;
    }
    for picture in &links.pictures {
        let copy = source.join(picture);
        fs::create_dir_all(copy.parent().unwrap_or(&source))?;
        fs::copy(root().join(picture), copy)?;
    }
    write(&source.join("reference/index.md"), REFERENCES)?;
    write(&source.join("reference/python.md"), &python_reference()?)?;
    write(&source.join("SUMMARY.md"), &summary(&groups, REFERENCE_PAGES))?;
    write(&work.join("site.css"), STYLE)?;
    let configuration = template::fill(CONFIGURATION, &[("repository", repository)]);
    write(&work.join("book.toml"), &configuration)?;
    run(Command::new(mdbook).arg("build").arg(work).arg("--dest-dir").arg(site))
}

/// The reference of the Python module as Markdown.
fn python_reference() -> Outcome<String> {
    let [program, stub] = STUBS.map(|file| root().join(file));
    let mut print = Command::new(setup::find_python()?);
    output(print.arg(program).arg("dlbridge").arg(stub))
}

fn write(file: &Path, text: &str) -> Outcome {
    fs::create_dir_all(file.parent().unwrap_or(file))?;
    Ok(fs::write(file, text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_python_reference_has_every_function_and_method() -> Outcome {
        let page = python_reference()?;
        for text in [
            "\n## class `Tensor` {#Tensor}\n",
            "\n### `Tensor.stride` {#Tensor.stride}\n\n```python\nstride(dim: None = None) -> tuple",
            "\n## `from_dlpack` {#from_dlpack}\n",
            "[`from_dlpack`](#from_dlpack)",
            "```python-repl\n>>> ",
            "DType(dtype: _DType, /) -> Self",
        ] {
            assert!(page.contains(text), "{text}");
        }
        let stub = fs::read_to_string(root().join(STUBS[1]))?;
        let names = stub.lines().filter_map(|line| line.trim_start().strip_prefix("def "));
        for name in
            names.filter_map(|rest| rest.split('(').next()).filter(|name| *name != "__new__")
        {
            let begins = ["\n", "\nclassmethod "].map(|begin| format!("{begin}{name}"));
            let has = |end| begins.iter().any(|begin| page.contains(&format!("{begin}{end}")));
            assert!(has("(") || has(": "), "{name}");
        }
        Ok(())
    }
}
