//! Reads the tags of an HTML page that a generator wrote.

/// A tag that opens an element.
#[derive(Debug, PartialEq)]
pub(super) struct Tag<'a> {
    pub(super) name: &'a str,
    attributes: Vec<(&'a str, &'a str)>,
}

/// Elements whose content is text, also where it looks like tags.
const RAW: [&str; 3] = ["script", "style", "textarea"];

impl Tag<'_> {
    /// The value of an attribute, with its entities replaced.
    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        let found = self.attributes.iter().find(|(key, _)| *key == name);
        found
            .map(|(_, value)| value.replace("&quot;", "\"").replace("&#39;", "'"))
            .map(|value| value.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    }
}

/// The tags of a page that open elements, in their order.
pub(super) fn tags(html: &str) -> Vec<Tag<'_>> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some((_, after)) = rest.split_once('<') {
        rest = if let Some(comment) = after.strip_prefix("!--") {
            comment.split_once("-->").map_or("", |(_, rest)| rest)
        } else if after.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
            let (tag, after) = tag(after);
            let after = after_raw_text(&tag, after);
            tags.push(tag);
            after
        } else {
            after
        };
    }
    tags
}

/// The tag that `text` begins with, after its `<`, and the rest of the text after its `>`.
fn tag(text: &str) -> (Tag<'_>, &str) {
    let is_end = |letter: char| letter.is_whitespace() || matches!(letter, '>' | '/');
    let (name, mut rest) = text.split_at(text.find(is_end).unwrap_or(text.len()));
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '/');
        if rest.is_empty() {
            return (Tag { name, attributes }, rest);
        }
        if let Some(rest) = rest.strip_prefix('>') {
            return (Tag { name, attributes }, rest);
        }
        let end = rest.find(|letter: char| is_end(letter) || letter == '=').unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let (value, after) = match after.strip_prefix('=') {
            Some(after) => value(after),
            None => ("", after),
        };
        attributes.push((key, value));
        rest = after;
    }
}

/// The value of an attribute, with or without quotes, and the text after it.
fn value(text: &str) -> (&str, &str) {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => text[1..].split_once(quote).unwrap_or((&text[1..], "")),
        _ => text.split_at(
            text.find(|letter: char| letter.is_whitespace() || letter == '>').unwrap_or(text.len()),
        ),
    }
}

/// The text after the content of an element that has no tags in it.
fn after_raw_text<'a>(tag: &Tag, text: &'a str) -> &'a str {
    if !RAW.contains(&tag.name) {
        return text;
    }
    text.find(&format!("</{}", tag.name)).map_or("", |end| &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_attributes_are_found() {
        let html = "<!DOCTYPE html><a href=\"x.html#a&amp;b\" id=one>1 &lt; 2</a>\
                    <!-- <a href='no'> --><script src='s.js' defer>if (a <b) '<img src=\"no\">'</script>\
                    <img alt='\"' src=p.svg/><br/>";
        let found = tags(html);
        let names: Vec<_> = found.iter().map(|tag| tag.name).collect();
        assert_eq!(names, ["a", "script", "img", "br"]);
        assert_eq!(found[0].attribute("href").as_deref(), Some("x.html#a&b"));
        assert_eq!(found[0].attribute("id").as_deref(), Some("one"));
        assert_eq!(found[1].attribute("defer").as_deref(), Some(""));
        assert_eq!(found[1].attribute("href"), None);
        assert_eq!(found[2].attribute("alt").as_deref(), Some("\""));
    }

    #[test]
    fn text_that_ends_early_is_no_endless_loop() {
        for html in ["<a", "<a href", "<a href=", "<a href=\"x", "<script>", "<!-- ", "<", "<a /"] {
            assert!(tags(html).len() <= 1, "{html}");
        }
    }
}
