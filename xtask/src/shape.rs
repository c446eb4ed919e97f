//! `cargo xtask shape`: fails on functions that are too long, nested too deeply, or have too many
//! parameters.
//!
//! Lines reach from the signature to the closing brace. The body of the function is one level of
//! nesting; every block in it is a further one, and so are the braces of a `match`. Functions with
//! a fixed signature (`extern "C"`, and those of a trait that the crate implements) may have any
//! number of parameters. Generated files and tests are left out.

use std::path::Path;

use syn::visit::{self, Visit};

use crate::command::rust_files;
use crate::layers::only_in_tests;
use crate::{Outcome, root};

const MAX_LINES: usize = 60;
const MAX_NESTING: usize = 5;
const MAX_PARAMETERS: usize = 5;

/// Files that a program writes.
const GENERATED: [&str; 3] = ["src/ffi.rs", "src/torch/bindings.rs", "capi/src/header.rs"];

/// Functions that may exceed a limit, each with the reason: file, function, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Checks every Rust file that git knows.
pub(crate) fn check() -> Outcome {
    let mut needed = vec![false; EXCEPTIONS.len()];
    let mut found = 0;
    for file in files()? {
        let text = std::fs::read_to_string(root().join(&file))?;
        for function in too_large(&text).map_err(|error| format!("{file}: {error}"))? {
            let excepted =
                |&(path, name, _): &(&str, &str, &str)| path == file && name == function.name;
            if let Some(exception) = EXCEPTIONS.iter().position(excepted) {
                needed[exception] = true;
            } else {
                eprintln!("{file}:{}: {}", function.line, function.excess());
                found += 1;
            }
        }
    }
    for ((path, name, reason), _) in EXCEPTIONS.iter().zip(&needed).filter(|(_, needed)| !**needed)
    {
        eprintln!("not needed any more: {path}: {name} ({reason})");
        found += 1;
    }
    if found == 0 {
        Ok(())
    } else {
        Err(format!("{found} functions are too large, see above").into())
    }
}

/// The files to check, relative to the workspace. The fake driver is a program beside the tests,
/// not a test.
fn files() -> Outcome<Vec<String>> {
    let is_test = |file: &str| {
        let path = Path::new(file);
        let beside_tests = path.components().any(|part| part.as_os_str() == "tests");
        beside_tests && !file.starts_with("tests/support/fake-cuda/") || path.ends_with("tests.rs")
    };
    let wanted = |file: &String| !GENERATED.contains(&file.as_str()) && !is_test(file);
    Ok(rust_files()?.into_iter().filter(wanted).collect())
}

/// The size of a function.
#[derive(Debug)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
    nesting: usize,
    /// Parameters without `self`; none if the signature is fixed.
    parameters: usize,
}

impl Function {
    fn new(signature: &syn::Signature, block: &syn::Block, fixed_signature: bool) -> Self {
        let line = signature.fn_token.span.start().line;
        let fixed_signature = fixed_signature || signature.abi.is_some();
        let typed =
            signature.inputs.iter().filter(|input| matches!(input, syn::FnArg::Typed(_))).count();
        let mut nesting = Nesting::default();
        nesting.visit_block(block);
        Self {
            name: signature.ident.to_string(),
            line,
            lines: block.brace_token.span.close().end().line - line + 1,
            nesting: nesting.deepest,
            parameters: if fixed_signature { 0 } else { typed },
        }
    }

    fn is_too_large(&self) -> bool {
        self.lines > MAX_LINES || self.nesting > MAX_NESTING || self.parameters > MAX_PARAMETERS
    }

    fn excess(&self) -> String {
        let limits = [
            (self.lines, MAX_LINES, "lines"),
            (self.nesting, MAX_NESTING, "levels of nesting"),
            (self.parameters, MAX_PARAMETERS, "parameters"),
        ];
        let exceeded = limits.iter().filter(|(value, limit, _)| value > limit);
        let texts =
            exceeded.map(|(value, limit, what)| format!("{value} {what} (at most {limit})"));
        format!("{} has {}", self.name, texts.collect::<Vec<_>>().join(", "))
    }
}

/// The functions of a file that exceed a limit.
fn too_large(text: &str) -> syn::Result<Vec<Function>> {
    let mut functions = Functions::default();
    functions.visit_file(&syn::parse_file(text)?);
    functions.all.retain(Function::is_too_large);
    Ok(functions.all)
}

/// Collects the functions of a file, those of tests left out.
#[derive(Default)]
struct Functions {
    all: Vec<Function>,
    /// The visited item implements a trait.
    in_trait_impl: bool,
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !only_in_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !only_in_tests(&item.attrs) {
            self.all.push(Function::new(&item.sig, &item.block, false));
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !only_in_tests(&item.attrs) {
            let outside = std::mem::replace(&mut self.in_trait_impl, item.trait_.is_some());
            visit::visit_item_impl(self, item);
            self.in_trait_impl = outside;
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.all.push(Function::new(&item.sig, &item.block, self.in_trait_impl));
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.all.push(Function::new(&item.sig, block, false));
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// Measures how deeply blocks are nested.
#[derive(Default)]
struct Nesting {
    current: usize,
    deepest: usize,
}

impl Nesting {
    fn inside(&mut self, visit: impl FnOnce(&mut Self)) {
        self.current += 1;
        self.deepest = self.deepest.max(self.current);
        visit(self);
        self.current -= 1;
    }
}

impl<'ast> Visit<'ast> for Nesting {
    fn visit_block(&mut self, block: &'ast syn::Block) {
        self.inside(|this| visit::visit_block(this, block));
    }

    fn visit_expr_match(&mut self, item: &'ast syn::ExprMatch) {
        self.visit_expr(&item.expr);
        self.inside(|this| item.arms.iter().for_each(|arm| this.visit_arm(arm)));
    }

    /// A function in a function is measured by itself.
    fn visit_item(&mut self, _: &'ast syn::Item) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excess(text: &str) -> Vec<String> {
        too_large(text).expect("Rust").iter().map(Function::excess).collect()
    }

    #[test]
    fn long_functions_are_found() {
        let body = |lines: usize| format!("fn f() {{\n{}}}\n", "g();\n".repeat(lines));
        assert!(excess(&body(58)).is_empty());
        assert_eq!(excess(&body(59)), ["f has 61 lines (at most 60)"]);
    }

    #[test]
    fn blocks_and_matches_are_levels_of_nesting() {
        let nested = |levels: usize| {
            format!("fn f() {{ {}{} }}", "if a { ".repeat(levels), "}".repeat(levels))
        };
        assert!(excess(&nested(4)).is_empty());
        assert_eq!(excess(&nested(5)), ["f has 6 levels of nesting (at most 5)"]);
        let text = "fn f() { match a { b => unsafe { loop { match c { d => {} } } } } }";
        assert_eq!(excess(text), ["f has 6 levels of nesting (at most 5)"]);
    }

    #[test]
    fn parameters_are_counted_unless_the_signature_is_fixed() {
        let parameters = "a: A, b: A, c: A, d: A, e: A, f: A";
        assert_eq!(excess(&format!("fn f({parameters}) {{}}")), ["f has 6 parameters (at most 5)"]);
        assert_eq!(excess(&format!("impl A {{ fn f(&self, {parameters}) {{}} }}")).len(), 1);
        assert!(excess(&format!("impl A for B {{ fn f({parameters}) {{}} }}")).is_empty());
        assert!(excess(&format!("extern \"C\" fn f({parameters}) {{}}")).is_empty());
        assert!(
            excess(&format!("#[cfg(test)] mod tests {{ fn f({parameters}) {{}} }}")).is_empty()
        );
    }
}
