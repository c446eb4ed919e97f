//! Runs the recipes of `docs/embedding.md`, and compares their output with the page.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{block, library, output_of, root, scratch, skipped};

/// The recipe in a language, and its output according to the page.
fn recipe(language: &str) -> (String, String) {
    let page = fs::read_to_string(root().join("docs/embedding.md")).expect("the page");
    let (program, rest) = block(&page, language);
    let (printed, _) = block(rest, "text");
    (program.to_owned(), printed.to_owned())
}

/// Runs a recipe with an interpreter, if the interpreter succeeds with the arguments `probe`.
/// `needs` says what is missing otherwise.
fn run(language: &str, mut interpreter: Command, probe: &[&str], needs: &str) {
    let available =
        Command::new(interpreter.get_program()).envs(envs(&interpreter)).args(probe).output();
    if !available.is_ok_and(|output| output.status.success()) {
        skipped(&format!("the recipe in {language}"), &format!("there is no {needs}"));
        return;
    }
    let (program, printed) = recipe(language);
    let file = scratch(&format!("recipe-{language}")).join(format!("recipe.{language}"));
    fs::write(&file, program).expect("written");
    let output =
        output_of(interpreter.env("DLBRIDGE_LIBRARY", library().join("libdlbridge.so")).arg(file));
    assert_eq!(output, printed);
}

fn envs(command: &Command) -> Vec<(String, String)> {
    let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    command.get_envs().filter_map(|(name, value)| Some((text(name), text(value?)))).collect()
}

#[test]
fn python_recipe_prints_what_the_page_says() {
    let venv = root().join(".venv/bin/python");
    let python = if venv.exists() { venv } else { PathBuf::from("python3") };
    run("python", Command::new(python), &["-c", "import numpy"], "Python with NumPy");
}

#[test]
fn node_recipe_prints_what_the_page_says() {
    let mut node = Command::new("node");
    if std::env::var_os("NODE_PATH").is_none() {
        // `cargo xtask test` installs koffi there.
        node.env("NODE_PATH", root().join("target/node/node_modules"));
    }
    run("js", node, &["-e", "require('koffi')"], "Node.js with koffi");
}

#[test]
fn luajit_recipe_prints_what_the_page_says() {
    run("lua", Command::new("luajit"), &["-v"], "luajit");
}
