//! Checks the links of the built site: each leads to a file of the site, and to an element there if
//! it has an anchor. No page needs the network, or to be at a certain address.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::html::tags;
use super::paths::resolved;
use crate::Outcome;

/// Links of a page that are not followed: other sites, and text in the link itself.
const ELSEWHERE: [&str; 5] = ["http://", "https://", "mailto:", "data:", "javascript:"];
/// What a browser loads to show a page: element, attribute.
const LOADED: [(&str, &str); 5] =
    [("img", "src"), ("script", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")];
/// Links of `link` that a browser does not load.
const NOT_LOADED: [&str; 2] = ["canonical", "alternate"];

/// Faults of others: the page's address begins so, the link contains this, and why.
const EXCEPTIONS: [(&str, &str, &str); 4] = [
    (
        "reference/rust/",
        "/trait.impl/",
        "rustdoc writes no list of implementations if there is none",
    ),
    (NDARRAYS_DOCS, "https://rust-ndarray.github.io/", "a picture in ndarray's documentation"),
    (NDARRAYS_DOCS, "#slicing", "ndarray's documentation means a page of its own"),
    (NDARRAYS_DOCS, "#subviews", "ndarray's documentation means a page of its own"),
];
/// The page where rustdoc shows the methods of `ndarray::ArrayBase`, too.
const NDARRAYS_DOCS: &str = "reference/rust/dlbridge/struct.NdArray.html";

/// A page as the check sees it.
#[derive(Default)]
struct Page {
    /// Links that a reader follows.
    links: Vec<String>,
    /// What the browser loads.
    loaded: Vec<String>,
    /// What anchors may name.
    ids: HashSet<String>,
    /// The page that a browser opens instead.
    replacement: Option<String>,
}

impl Page {
    fn read(html: &str) -> Self {
        let mut page = Self::default();
        for tag in tags(html) {
            if tag.attribute("http-equiv").as_deref() == Some("refresh") {
                let content = tag.attribute("content").unwrap_or_default();
                page.replacement = content.split_once('=').map(|(_, link)| link.to_owned());
            }
            page.ids.extend(tag.attribute("id"));
            if tag.name == "a" {
                page.ids.extend(tag.attribute("name"));
            }
            if matches!(tag.name, "a" | "area") {
                page.links.extend(tag.attribute("href"));
            }
            let is_loaded = !tag.attribute("rel").is_some_and(|rel| NOT_LOADED.contains(&&*rel));
            let attributes = LOADED.iter().filter(|(name, _)| *name == tag.name && is_loaded);
            page.loaded.extend(attributes.filter_map(|(_, attribute)| tag.attribute(attribute)));
        }
        page
    }

    /// Whether an anchor leads to an element. rustdoc's scripts understand ranges of lines, too.
    fn has(&self, anchor: &str) -> bool {
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let first = match anchor.split_once('-') {
            Some((first, last)) if is_number(first) && is_number(last) => first,
            _ => anchor,
        };
        first.is_empty() || self.ids.contains(first)
    }
}

/// Checks every page below `site`, and `addresses`: links from elsewhere, relative to the site.
/// Links into the folders `left_out` are not checked. Returns the number of links.
pub(super) fn check(site: &Path, addresses: &[String], left_out: &[&str]) -> Outcome<usize> {
    let mut files = BTreeSet::new();
    list(site, site, &mut files)?;
    let mut pages = BTreeMap::new();
    for file in files.iter().filter(|file| file.ends_with(".html")) {
        let html = String::from_utf8_lossy(&fs::read(site.join(file))?).into_owned();
        pages.insert(file.clone(), Page::read(&html));
    }
    let site = Site { files, pages, left_out };
    let mut faults = BTreeSet::new();
    let mut count = addresses.len();
    for (file, page) in &site.pages {
        let is_excepted = |link: &str| {
            let mut exceptions = EXCEPTIONS.iter();
            exceptions.any(|(page, part, _)| file.starts_with(page) && link.contains(part))
        };
        let is_address = |link: &&String| link.contains("//") && !link.starts_with("data:");
        let from_network = page.loaded.iter().filter(is_address).filter(|link| !is_excepted(link));
        faults.extend(from_network.map(|link| format!("{file} needs the network: {link}")));
        let links = page.links.iter().chain(&page.loaded);
        for link in links.filter(|link| !is_elsewhere(link) && !is_excepted(link)) {
            count += 1;
            faults.extend(site.fault(file, link).map(|fault| format!("{file}: {link}: {fault}")));
        }
    }
    for address in addresses {
        faults.extend(site.fault("index.html", address).map(|fault| format!("{address}: {fault}")));
    }
    for fault in faults.iter().take(100) {
        eprintln!("{fault}");
    }
    if faults.is_empty() { Ok(count) } else { Err(format!("dead links: {}", faults.len()).into()) }
}

/// Whether a link leads to another site, or is text.
fn is_elsewhere(link: &str) -> bool {
    ELSEWHERE.iter().any(|scheme| link.starts_with(scheme))
}

struct Site<'a> {
    files: BTreeSet<String>,
    pages: BTreeMap<String, Page>,
    left_out: &'a [&'a str],
}

impl Site<'_> {
    /// What is wrong with a link of the page `from`.
    fn fault(&self, from: &str, link: &str) -> Option<&'static str> {
        if link.starts_with('/') {
            return Some("it holds at the root of a server only");
        }
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let path = decoded(path.split('?').next().unwrap_or_default());
        let file = if path.is_empty() { Some(from.to_owned()) } else { resolved(from, &path) };
        let Some(mut file) = file else { return Some("it leaves the site") };
        if self.left_out.iter().any(|folder| file.starts_with(folder)) {
            return None;
        }
        if file.is_empty() || path.ends_with('/') || path.ends_with("..") {
            file = format!("{file}/index.html").trim_start_matches('/').to_owned();
        }
        let page = self.pages.get(&file);
        if let Some(replacement) = page.and_then(|page| page.replacement.as_ref()) {
            return self.fault(&file, &format!("{replacement}#{anchor}"));
        }
        match page {
            // As browsers do: as it is written, then decoded.
            Some(page) if page.has(anchor) || page.has(&decoded(anchor)) => None,
            Some(_) => Some("no element has this name"),
            None => (!self.files.contains(&file)).then_some("there is no such file"),
        }
    }
}

/// Replaces `%20` and the like.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = hex.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (byte, after) = match code.filter(|_| first == b'%') {
            Some(code) => (code, &after[2..]),
            None => (first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Adds the files below `folder` to `files`, relative to `site`.
fn list(site: &Path, folder: &Path, files: &mut BTreeSet<String>) -> Outcome {
    for entry in fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        if path.is_dir() {
            list(site, &path, files)?;
        } else {
            files.insert(path.strip_prefix(site)?.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site<'static> {
        let pages = [
            ("index.html", "<h1 id=top>x</h1>"),
            (
                "docs/a.html",
                "<h2 id='a%b'>x</h2><h2 id='T%3CU%3E'>y</h2><a name=old>y</a><a href=#1 id=1>1</a>",
            ),
            ("docs/b/index.html", ""),
            ("docs/old.html", "<meta http-equiv=refresh content='0;URL=../index.html'>"),
        ];
        let pages: BTreeMap<_, _> =
            pages.map(|(file, html)| (file.to_owned(), Page::read(html))).into();
        let files = pages.keys().cloned().chain(["docs/my chart.svg".to_owned()]).collect();
        Site { files, pages, left_out: &["reference/c/"] }
    }

    #[test]
    fn good_links_lead_somewhere() {
        for link in [
            "#a%25b",
            "#T%3CU%3E",
            "a.html#old",
            "a.html#1-20",
            "../index.html#top",
            "../",
            "..",
            "b/",
            "b/?q=1",
            "my%20chart.svg",
            "../reference/c/x.html#y",
            "a.html#",
            "old.html#top",
        ] {
            assert_eq!(site().fault("docs/a.html", link), None, "{link}");
        }
    }

    #[test]
    fn dead_links_are_found() {
        for link in [
            "#gone",
            "gone.html",
            "../index.html#a",
            "/index.html",
            "../../x.html",
            "a.html#2-3",
            "my.svg",
            "a.html#1-x",
            "old.html#old",
        ] {
            assert!(site().fault("docs/a.html", link).is_some(), "{link}");
        }
    }

    #[test]
    fn links_of_a_page_are_read() {
        let page = Page::read(
            "<link rel=canonical href=https://x><link rel=stylesheet href=a.css>\
             <script src=https://cdn/x.js></script><a href='b.html'>b</a>",
        );
        assert_eq!(page.loaded, ["a.css", "https://cdn/x.js"]);
        assert_eq!(page.links, ["b.html"]);
    }
}
