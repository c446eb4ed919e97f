//! `cargo xtask docs`: builds the guides, the references and the benchmarks as one site in
//! `target/site`, which works from a plain file server, and checks it.

mod book;
mod browser;
mod headers;
mod html;
mod links;
mod markdown;
mod pages;
mod paths;
pub(crate) mod rustdoc;
mod screenshots;
mod server;

use std::env;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::command::{answers, files, output};
use crate::steps::timed;
use crate::{Outcome, cargo, root};

/// Builds the site, checks its links, and looks at some of its pages.
pub(crate) fn build() -> Outcome {
    let [site, work, pictures] =
        ["site", "site-source", "site-screenshots"].map(|name| root().join("target").join(name));
    for folder in [&site, &work] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    let addresses = Addresses::read()?;
    book::make(&site, &work, &addresses.repository)?;
    rustdoc::make(&site)?;
    let mut left_out = Vec::new();
    if !headers::make(&site, &work)? {
        skipped("the reference of C and C++", "doxygen")?;
        left_out.push(headers::FOLDER);
    }
    let named = addresses.of_pages()?;
    let count = timed("links".to_owned(), || links::check(&site, &named, &left_out))?;
    match browser::program() {
        Some(program) => timed("pages in a browser".to_owned(), || {
            screenshots::check(program, &site, &pictures, &left_out)
        })?,
        None => skipped("pages in a browser", "chromium")?,
    }
    println!("{count} links within the site are good; it is in {}", site.display());
    println!("to read it: python3 -m http.server --directory {}", site.display());
    Ok(())
}

/// Says what is skipped because a program is missing. In CI this is an error, where there is an
/// apt-get that could have installed the program.
fn skipped(what: &str, program: &str) -> Outcome {
    let is_required = env::var("CI").as_deref() == Ok("true")
        && answers(Command::new("apt-get").arg("--version"));
    if is_required {
        return Err(format!("{what}: {program} is missing").into());
    }
    eprintln!("\nskipped: {what}: there is no {program}");
    Ok(())
}

/// Where the repository and the site are published.
struct Addresses {
    repository: String,
    /// Ends with `/`.
    site: String,
}

impl Addresses {
    fn read() -> Outcome<Self> {
        let mut metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
        let metadata: Value = serde_json::from_str(&output(&mut metadata)?)?;
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let package = packages.into_iter().find(|package| package["name"] == "dlbridge");
        let field = |name: &str| package.and_then(|package| package[name].as_str());
        let (repository, site) = field("repository").zip(field("homepage")).ok_or("no homepage")?;
        Ok(Self { repository: repository.to_owned(), site: site.to_owned() })
    }

    /// The pages of the site that files of the repository name by their address, relative to it.
    fn of_pages(&self) -> Outcome<Vec<String>> {
        let mut found = Vec::new();
        for file in files(&["*.md", "*.rs", "*.toml", "*.pyi", "*.yml", "include/*"])? {
            let text = fs::read_to_string(root().join(file))?;
            found.extend(self.in_text(&text).map(str::to_owned));
        }
        Ok(found)
    }

    fn in_text<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let is_end = |letter: char| letter.is_whitespace() || "\"'`<>()[]|,;".contains(letter);
        let rests = text.split(self.site.as_str()).skip(1);
        rests.map(move |rest| rest.split(is_end).next().unwrap_or_default().trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_texts_name_are_found() {
        let addresses = Addresses {
            repository: "https://host/us".to_owned(),
            site: "https://us.host/lib/".to_owned(),
        };
        let text = "See https://us.host/lib/docs/a.html#b, [x](https://us.host/lib/c.html).\n\
                    home = \"https://us.host/lib/\"\nhttps://us.host/library/d.html";
        let found: Vec<_> = addresses.in_text(text).collect();
        assert_eq!(found, ["docs/a.html#b", "c.html", ""]);
    }
}
