//! The workflows of the public CI and the forms for issues: checked before they are pushed.

use std::process::Command;

use crate::command::files;
use crate::{Outcome, root, run, setup};

/// Finds permissions that are too wide, actions that are not pinned, and texts of strangers that
/// reach a shell.
const ZIZMOR: &str = "zizmor==1.32.0";
/// Compares files with the schemas of GitHub, of which its wheel has a copy.
const CHECK_JSONSCHEMA: &str = "check-jsonschema==0.39.0";

/// Files, and the schema that each has to follow.
const SCHEMAS: [(&str, &str); 3] = [
    (".github/workflows/*.yml", "vendor.github-workflows"),
    (".github/ISSUE_TEMPLATE/*.yml", "vendor.github-issue-forms"),
    (CONFIGURATION, "vendor.github-issue-config"),
];

/// The one file among the forms that is none.
const CONFIGURATION: &str = ".github/ISSUE_TEMPLATE/config.yml";

/// Fails on what the tools find.
pub(crate) fn check() -> Outcome {
    let venv = setup::ensure_packages(&setup::venv(None), &[ZIZMOR, CHECK_JSONSCHEMA])?;
    for (pattern, schema) in SCHEMAS {
        let mut check = Command::new(venv.join("bin/check-jsonschema"));
        check.args(["--quiet", "--builtin-schema", schema]).current_dir(root());
        let listed = files(&[pattern])?.into_iter();
        run(check.args(listed.filter(|file| file != CONFIGURATION || pattern == CONFIGURATION)))?;
    }
    let mut zizmor = Command::new(venv.join("bin/zizmor"));
    zizmor.args(["--offline", "--quiet", "--no-progress", ".github"]);
    run(zizmor.current_dir(root()))
}
