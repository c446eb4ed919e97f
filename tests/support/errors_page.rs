//! `docs/errors.md`: the texts of errors in every language. The tests of each language compare
//! their lines of the page, or write them if `DLBRIDGE_BLESS` is set.

use std::path::Path;

/// Which lines of a language a test knows.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Lines {
    /// All of them: another line of the language is out of date.
    All,
    /// Those that this build and machine can provoke.
    Some,
}

/// The lines of a section: the label of a language, padded, and a text.
const LANGUAGES: [&str; 4] = ["Rust", "C", "C++", "Python"];
const LABEL_BYTES: usize = 8;

fn is_of(line: &str, language: &str) -> bool {
    line.get(..LABEL_BYTES).is_some_and(|label| label.trim_end() == language)
}

/// The start and end of the lines of the section `key`.
fn block(page: &str, key: &str) -> Option<(usize, usize)> {
    let section = page.find(&format!("\n### {key}\n"))? + 1;
    let next = page[section..].find("\n## ").unwrap_or(page.len() - section);
    let next = page[section..].find("\n### ").unwrap_or(next).min(next) + section;
    let start = page[section..next].find("```text\n")? + section + "```text\n".len();
    let end = page[start..next].find("```")? + start;
    Some((start, end))
}

/// Compares the lines of a language with `texts`: the section of each text, and what the program
/// printed.
///
/// # Panics
/// When the page has other lines, unless `DLBRIDGE_BLESS` is set: then the page is changed.
pub(crate) fn compare(page: &Path, language: &str, texts: &[(String, String)], lines: Lines) {
    let mut text = std::fs::read_to_string(page).expect("the page");
    let written: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let keys: Vec<String> = written.into_iter().map(str::to_owned).collect();
    for (key, message) in texts {
        assert!(keys.contains(key), "docs/errors.md has no section {key:?}: {message}");
        assert!(!message.contains('\n'), "{key}: {message:?}");
    }
    let before = text.clone();
    for key in keys {
        let expected: Vec<_> = texts.iter().filter(|(of, _)| *of == key).collect();
        if expected.is_empty() && lines == Lines::Some {
            continue;
        }
        let Some((start, end)) = block(&text, &key) else { continue };
        let mut changed = String::new();
        for label in LANGUAGES {
            if label == language {
                for (_, message) in &expected {
                    changed += &format!("{label:LABEL_BYTES$}{message}\n");
                }
            } else {
                let others = text[start..end].lines().filter(|line| is_of(line, label));
                changed.extend(others.flat_map(|line| [line, "\n"]));
            }
        }
        text.replace_range(start..end, &changed);
    }
    if std::env::var_os("DLBRIDGE_BLESS").is_some() {
        std::fs::write(page, text).expect("written");
        return;
    }
    for (old, new) in before.lines().zip(text.lines()) {
        assert_eq!(old, new, "{}", STALE);
    }
    assert_eq!(before, text, "{}", STALE);
}

const STALE: &str = "docs/errors.md (left) is out of date: run the test with DLBRIDGE_BLESS=1";
