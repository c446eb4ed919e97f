//! The reference of the C and C++ headers, which Doxygen makes of their comments.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{answers, files};
use crate::{Outcome, root, run, setup, template, tools};

/// The folder of the reference in the site.
pub(super) const FOLDER: &str = "reference/c/";
/// The folder of the headers in the repository.
const HEADERS: &str = "include/";
/// The list of what the C library exports.
const SYMBOLS: &str = "capi/tests/abi/symbols.txt";
/// A style sheet for Doxygen's pages, of PyPI.
const THEME: &str = "doxygen-awesome-css==2.4.1rc0";

const CONFIGURATION: &str = include_str!("../../templates/site/Doxyfile");
const LAYOUT: &str = include_str!("../../templates/site/headers.xml");
const START: &str = include_str!("../../templates/site/headers.md");
const STYLE: &str = include_str!("../../templates/site/headers.css");

/// Makes the reference in the site, by way of the folder `work`. Returns false without Doxygen.
pub(super) fn make(site: &Path, work: &Path) -> Outcome<bool> {
    if !answers(Command::new("doxygen").arg("--version")) {
        return Ok(false);
    }
    let copies = work.join("include");
    for file in files(&[&format!("{HEADERS}*")])? {
        let copy = copies.join(file.trim_start_matches(HEADERS));
        fs::create_dir_all(copy.parent().unwrap_or(&copies))?;
        let text = fs::read_to_string(root().join(&file))?;
        fs::write(copy, documented(&text))?;
    }
    fs::write(copies.join("start.md"), START)?;
    let layout = work.join("layout.xml");
    fs::write(&layout, LAYOUT)?;
    let style = work.join("headers.css");
    fs::write(&style, STYLE)?;
    let output = site.join(FOLDER);
    fs::create_dir_all(&output)?;
    let configuration = work.join("Doxyfile");
    let values = [
        ("headers", copies.display().to_string()),
        ("layout", layout.display().to_string()),
        ("output", output.display().to_string()),
        ("style", style.display().to_string()),
        ("theme", theme()?.display().to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
    fs::write(&configuration, template::fill(CONFIGURATION, &values))?;
    run(Command::new("doxygen").arg(&configuration))?;
    let page = fs::read_to_string(output.join("dlbridge_8h.html"))?;
    let symbols = fs::read_to_string(root().join(SYMBOLS))?;
    match missing(&page, &symbols)[..] {
        [] => Ok(true),
        ref names => Err(format!("the reference lacks {}", names.join(", ")).into()),
    }
}

/// The file of the theme.
fn theme() -> Outcome<PathBuf> {
    let venv = setup::ensure_package(&tools::folder().join("python"), THEME)?;
    Ok(setup::site_packages(&venv)?.join("doxygen_awesome_css/doxygen-awesome.css"))
}

/// The names in the list of symbols that a page has no section for. A line begins with its name.
fn missing<'a>(page: &str, symbols: &'a str) -> Vec<&'a str> {
    let lines = symbols.lines().filter(|line| !line.starts_with('#'));
    let names = lines.filter_map(|line| line.split(' ').next());
    let has =
        |name: &str| ["", "()"].iter().any(|end| page.contains(&format!(">{name}{end}</h2>")));
    names.filter(|name| !has(name)).collect()
}

/// A header with comments that Doxygen reads: the comment at the beginning describes the file, a
/// comment before a declaration describes it, and so does one after it in the same line.
fn documented(header: &str) -> String {
    let is_comment = |line: &&str| ["//", "/*", " *"].iter().any(|begin| line.starts_with(begin));
    let first: Vec<&str> = header.lines().take_while(is_comment).collect();
    let mut text = about_the_file(&first);
    let mut rest = header.lines().skip(first.len()).peekable();
    while let Some(line) = rest.next() {
        if !(line.starts_with("/* ") || line == "/*") {
            text += &after_declaration(line);
            text += "\n";
            continue;
        }
        let mut comment = format!("{line}\n");
        while !comment.contains("*/") {
            let Some(line) = rest.next() else { break };
            comment += line;
            comment += "\n";
        }
        let next = rest.peek().copied().unwrap_or_default();
        let is_apart = next.is_empty() || next.starts_with("#if ") || next.starts_with("#include");
        text += &if is_apart { comment } else { comment.replacen("/*", "/**", 1) };
    }
    text
}

/// The comment at the beginning of a header, as one for Doxygen.
fn about_the_file(comment: &[&str]) -> String {
    let is_cpp = comment.first().is_some_and(|line| line.starts_with("//"));
    let mut text = if is_cpp { "/// @file\n///\n" } else { "/** @file\n" }.to_owned();
    let mut is_code = false;
    for line in comment {
        is_code ^= line.contains("```");
        // Doxygen takes `<` for a tag, but not in code.
        let mut line = if is_code { (*line).to_owned() } else { line.replace('<', "&lt;") };
        // The points of a list begin in one column.
        if line.strip_prefix(" *  ").is_some_and(|text| text.starts_with(|c: char| c.is_numeric()))
        {
            line.remove(2);
        }
        text += &if is_cpp { format!("/{line}\n") } else { line.replacen("/*", " *", 1) + "\n" };
    }
    text
}

/// A line in which a comment after a declaration is one for Doxygen.
fn after_declaration(line: &str) -> String {
    if let Some((code, text)) = line.split_once("= delete; // ") {
        return format!("{code}= delete; ///< Deleted: {text}.");
    }
    match line.split_once(" /* ") {
        Some((code, text)) if code.ends_with([',', ';']) => format!("{code} /**< {text}"),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_of_headers_become_documentation() {
        let header = "/*\n * Text of <a.h>.\n *  9. Nine.\n * 10. Ten.\n */\n#ifndef A /* guard */\n\n/* Not about it. */\n\n\
                      /* Why. */\n#if defined(B)\n#endif\n\n/* A kind. */\ntypedef enum {\n  x = 1, /* one */\n\
                      } kind;\n\n/**\n * Frees.\n */\nvoid f(void);\n";
        let expected = "/** @file\n *\n * Text of &lt;a.h>.\n * 9. Nine.\n * 10. Ten.\n */\n#ifndef A /* guard */\n\n\
                        /* Not about it. */\n\n/* Why. */\n#if defined(B)\n#endif\n\n/** A kind. */\n\
                        typedef enum {\n  x = 1, /**< one */\n} kind;\n\n/**\n * Frees.\n */\nvoid f(void);\n";
        assert_eq!(documented(header), expected);
    }

    #[test]
    fn comments_of_cpp_headers_become_documentation() {
        let header = "// Views.\n//\n// ```cpp\n// a<int>();\n// ```\n#ifndef A\n\n// Why.\n/// Moves.\n\
                      void f(A &) = delete; // write f(std::move(a))\n";
        let expected = "/// @file\n///\n/// Views.\n///\n/// ```cpp\n/// a<int>();\n/// ```\n#ifndef A\n\n\
                        // Why.\n/// Moves.\n\
                        void f(A &) = delete; ///< Deleted: write f(std::move(a)).\n";
        assert_eq!(documented(header), expected);
    }

    #[test]
    fn functions_without_a_section_are_found() {
        let page = "<h2><span></span>dlb_tensor_free()</h2> DLB_X <h2>dlb_tensor_view</h2>";
        let symbols = "# List\nDLB_X 0.1 3\ndlb_tensor_free 0.1 void(dlb_tensor *tensor)\n";
        assert_eq!(missing(page, symbols), ["DLB_X"]);
    }
}
