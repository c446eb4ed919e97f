//! `cargo xtask prose`: fails on words that hide who acts, and on comments that are too wide.
//!
//! The rules of CONTRIBUTING.md that a program can check, over every text file that git knows:
//!
//! * The words in [`VAGUE`] leave open who acts or which value is meant.
//! * A `// SAFETY:` comment does not refer to another one.
//! * A comment line in Rust has at most 100 columns, unless it is a row of a table or has a link.

use std::path::Path;

use crate::command::files;
use crate::{Outcome, root};

/// Words that do not name the subject, and the metaphors that stood for a mechanism.
const VAGUE: [&str; 15] = [
    "somebody",
    "someone",
    "nobody",
    "anybody",
    "everybody",
    "whoever",
    "so many",
    "likewise",
    "for ever",
    "forever",
    "vouched",
    "guest",
    "guests",
    "loan",
    "loans",
];

/// What a `// SAFETY:` comment begins with if it only refers to another one.
const REFERENCES: [&str; 4] = ["as above", "same as above", "likewise", "the caller's promise"];

const WIDEST_COMMENT: usize = 100;

/// Endings of the files that people read.
const READ: [&str; 12] =
    ["c", "cpp", "cu", "h", "hpp", "js", "lua", "md", "py", "pyi", "rs", "toml"];

/// This file, which names the words, and upstream's header.
const EXEMPT: [&str; 2] = ["xtask/src/prose.rs", "include/dlpack/dlpack.h"];

/// Checks every text file that git knows.
pub(crate) fn check() -> Outcome {
    let mut found = 0;
    for file in files(&[])? {
        let ending = Path::new(&file).extension().unwrap_or_default().to_string_lossy();
        if EXEMPT.contains(&file.as_str()) || !READ.contains(&&*ending) {
            continue;
        }
        let text = std::fs::read_to_string(root().join(&file))?;
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(fault) = fault(line, ending == "rs") {
                eprintln!("{file}:{number}: {fault}");
                found += 1;
            }
        }
    }
    if found == 0 { Ok(()) } else { Err(format!("{found} lines to reword, see above").into()) }
}

/// What is wrong with a line.
fn fault(line: &str, is_rust: bool) -> Option<String> {
    let lower = line.to_lowercase();
    if let Some(word) = VAGUE.iter().find(|word| has_words(&lower, word)) {
        return Some(format!("\"{word}\" does not name its subject"));
    }
    let safety = lower.split_once("// safety: ").map(|(_, note)| note);
    if safety.is_some_and(|note| REFERENCES.iter().any(|words| note.starts_with(words))) {
        return Some("name the precondition, and who established it".to_owned());
    }
    let comment = line.trim_start();
    let is_wide = is_rust && comment.starts_with("//") && line.chars().count() > WIDEST_COMMENT;
    (is_wide && !comment.contains("http") && !comment.contains('|'))
        .then(|| format!("the comment has over {WIDEST_COMMENT} columns"))
}

/// Whether `words` stand in `text`, not as a part of longer words.
fn has_words(text: &str, words: &str) -> bool {
    let is_letter = |letter: Option<char>| {
        letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    };
    text.match_indices(words).any(|(start, _)| {
        !is_letter(text[..start].chars().next_back())
            && !is_letter(text[start + words.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vague_words_and_wide_comments_are_found() {
        let wide = format!("    // {}", "word ".repeat(20));
        for (line, is_fault) in [
            ("Somebody frees the memory.", true),
            ("The consumer frees the memory.", false),
            ("// It is kept for ever, likewise.", true),
            ("// before everything", false),
            ("def forever_young():", false),
            ("// SAFETY: as above.", true),
            ("// SAFETY: `ptr` is valid, as the caller of this function guarantees.", false),
            (&wide, true),
            (&format!("{wide} https://"), false),
            (&"x".repeat(120), false),
        ] {
            assert_eq!(fault(line, true).is_some(), is_fault, "{line}");
        }
        assert_eq!(fault(&wide, false), None);
    }
}
