//! `cargo xtask unsafe-free`: fails on a library file that needs no unsafe code and does not forbid
//! it.
//!
//! A file says `#![forbid(unsafe_code)]`, or the `mod.rs` of its folder does, which then covers the
//! whole folder. A file that declares modules is left out, because its attribute would cover them
//! too; so are files of macros whose expansion holds unsafe code.

use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

use crate::command::rust_files;
use crate::{Outcome, root};

/// Where unsafe code may stand at all.
const FOLDERS: [&str; 6] =
    ["src/", "capi/src/", "fuzz/src/", "pyo3/src/", "python/src/", "tests/support/fake-cuda/src/"];

/// Attributes of PyO3, whose expansion holds unsafe code.
const UNSAFE_MACROS: [&str; 4] = ["pyclass", "pymethods", "pyfunction", "pymodule"];

/// Checks every library file that git knows.
pub(crate) fn check() -> Outcome {
    let mut found = 0;
    for file in rust_files()? {
        if !FOLDERS.iter().any(|folder| file.starts_with(folder)) || is_covered(Path::new(&file)) {
            continue;
        }
        let text = std::fs::read_to_string(root().join(&file))?;
        if lacks_forbid(&text).map_err(|error| format!("{file}: {error}"))? {
            eprintln!("{file}: needs no unsafe code; say #![forbid(unsafe_code)]");
            found += 1;
        }
    }
    if found == 0 {
        Ok(())
    } else {
        Err(format!("{found} files do not forbid unsafe code, see above").into())
    }
}

/// Whether the `mod.rs` of the file's folder forbids unsafe code for the whole folder.
fn is_covered(file: &Path) -> bool {
    let parent = root().join(file).with_file_name("mod.rs");
    std::fs::read_to_string(parent).is_ok_and(|text| forbids(&text))
}

fn forbids(text: &str) -> bool {
    text.contains("#![forbid(unsafe_code)]")
}

/// Whether a file could forbid unsafe code and does not.
fn lacks_forbid(text: &str) -> syn::Result<bool> {
    let file = syn::parse_file(text)?;
    let declares_modules = file
        .items
        .iter()
        .any(|item| matches!(item, syn::Item::Mod(module) if module.content.is_none()));
    if forbids(text) || declares_modules {
        return Ok(false);
    }
    let tokens: TokenStream = text.parse().map_err(syn::Error::from)?;
    Ok(!mentions(tokens, &|word| word == "unsafe" || UNSAFE_MACROS.contains(&word)))
}

/// Whether one of the words stands anywhere in the tokens; comments and texts do not count.
fn mentions(tokens: TokenStream, is_wanted: &impl Fn(&str) -> bool) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(word) => is_wanted(&word.to_string()),
        TokenTree::Group(group) => mentions(group.stream(), is_wanted),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_unsafe_code_must_forbid_it() {
        for (text, lacks) in [
            ("fn safe() {}", true),
            ("#![forbid(unsafe_code)]\nfn safe() {}", false),
            ("fn f(p: *const u8) -> u8 { unsafe { *p } }", false),
            ("// unsafe\nfn safe() -> &'static str { \"unsafe\" }", true),
            ("mod child;", false),
            ("#[pyfunction]\nfn f() {}", false),
        ] {
            assert_eq!(lacks_forbid(text).expect("Rust"), lacks, "{text}");
        }
    }
}
