//! Fills text files with named gaps: the value of `name` replaces `{{name}}`.

/// Fills the gaps of a template. Every value has its gap, and every gap its value: a template and
/// the code that fills it change together.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in values {
        let gap = format!("{{{{{name}}}}}");
        assert!(text.contains(&gap), "the template has no {gap}");
        text = text.replace(&gap, value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn gaps_are_filled_by_name() {
        let text = fill("{{a}} and {{b}} and {{a}}", &[("a", "1"), ("b", "2")]);
        assert_eq!(text, "1 and 2 and 1");
    }

    #[test]
    #[should_panic(expected = "the template has no {{c}}")]
    fn a_value_without_a_gap_is_a_mistake() {
        fill("{{a}}", &[("c", "1")]);
    }
}
