//! Paths of links, with `/` between their parts.

/// The path that a link in the file `from` leads to; `None` if it leaves the root of both.
pub(super) fn resolved(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The link in the file `from` that leads to the path `to`.
pub(super) fn relative(from: &str, to: &str) -> String {
    let common = from.split('/').zip(to.split('/')).take_while(|(a, b)| a == b).count();
    let folders = from.matches('/').count();
    let common = common.min(folders).min(to.matches('/').count());
    let rest: Vec<&str> = to.split('/').skip(common).collect();
    "../".repeat(folders - common) + &rest.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_made_and_resolved() {
        for (from, link, to) in [
            ("index.html", "docs/a.html", "docs/a.html"),
            ("docs/a.html", "b.html", "docs/b.html"),
            ("docs/a.html", "c/b.html", "docs/c/b.html"),
            ("docs/a/b.html", "../../c/d.html", "c/d.html"),
            ("docs/a/b.html", "../c.html", "docs/c.html"),
            ("docs/a.html", "a.html", "docs/a.html"),
        ] {
            assert_eq!(relative(from, to), link);
            assert_eq!(resolved(from, link).as_deref(), Some(to));
        }
        assert_eq!(resolved("docs/a.html", "../../b"), None);
        assert_eq!(resolved("docs/a.html", "./b/"), Some("docs/b".to_owned()));
    }
}
