//! `cargo xtask notes VERSION`: the notes of a release, from CHANGELOG.md.

use std::fs;

use crate::{Outcome, root};

/// Prints what the changelog says about a version. Fails if the version has no day of release.
pub(crate) fn print(version: &str) -> Outcome {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md"))?;
    let section = Section::find(&changelog, version)?;
    if !section.has_date() {
        return Err(format!("CHANGELOG.md says \"{}\" of {version}, not a day", section.day).into());
    }
    println!("{}", section.text);
    Ok(())
}

/// Fails unless the changelog has a section for the version of the workspace.
pub(crate) fn check() -> Outcome {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md"))?;
    Section::find(&changelog, env!("CARGO_PKG_VERSION")).map(drop)
}

/// What the changelog says about a version.
struct Section<'a> {
    /// What follows the version in the heading: the day of the release, or that there was none.
    day: &'a str,
    text: &'a str,
}

impl<'a> Section<'a> {
    fn find(changelog: &'a str, version: &str) -> Outcome<Self> {
        let heading = format!("\n## [{version}] - ");
        let Some((_, rest)) = changelog.split_once(&heading) else {
            return Err(format!("CHANGELOG.md has no heading \"{}…\"", heading.trim_start()).into());
        };
        let (day, text) = rest.split_once('\n').unwrap_or((rest, ""));
        let text = text.split_once("\n## ").map_or(text, |(section, _)| section);
        Ok(Self { day: day.trim(), text: text.trim() })
    }

    /// Whether the heading ends with a day, such as `2026-12-31`.
    fn has_date(&self) -> bool {
        let parts: Vec<_> = self.day.split('-').collect();
        let is_number = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
        parts.iter().all(is_number) && parts.iter().map(|part| part.len()).eq([4, 2, 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGELOG: &str = "# Changelog\n\n## [Unreleased]\n\n* New.\n\n\
                             ## [0.2.0] - not yet released\n\n* Second.\n\n### Fixed\n\n* More.\n\n\
                             ## [0.1.0] - 2026-12-31\n\n* First.\n";

    #[test]
    fn the_section_of_a_version_is_found() -> Outcome {
        let first = Section::find(CHANGELOG, "0.1.0")?;
        assert_eq!((first.text, first.day, first.has_date()), ("* First.", "2026-12-31", true));
        let second = Section::find(CHANGELOG, "0.2.0")?;
        assert_eq!(second.text, "* Second.\n\n### Fixed\n\n* More.");
        assert!(!second.has_date());
        for unknown in ["0.3.0", "0.1", "Unreleased"] {
            assert!(Section::find(CHANGELOG, unknown).is_err(), "{unknown}");
        }
        Ok(())
    }
}
