//! `cargo xtask layers`: the layers of every crate of the workspace, and a failure where modules
//! import each other in a circle.
//!
//! The modules in one folder are compared with each other, and so are the top-level modules of a
//! crate, where a folder counts as one module. The root of a crate is one of its top-level modules,
//! without its re-exports. A folder's `mod.rs` and its children may import from each other. Paths
//! count, in `use` lines and in code; a call of a method names no module, and is not seen.

mod graph;
mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{Outcome, root};
use graph::Graph;
pub(crate) use source::only_in_tests;
use source::{Crate, Edge};

/// An import that may close a circle.
struct Exception {
    package: &'static str,
    from: &'static str,
    to: &'static str,
    reason: &'static str,
}

/// Imports that are left out, each with the reason.
const EXCEPTIONS: &[Exception] = &[];

/// The name that a crate's root has among its modules.
const ROOT: &str = "crate";

/// Prints the layers of every crate, the lowest first; fails if modules import each other in a
/// circle.
pub(crate) fn check() -> Outcome {
    let mut report = Report::default();
    for package in packages()? {
        let source = |file: &Path| std::fs::read_to_string(root().join(file)).ok();
        let krate = Crate::read(&package.root, &source)?;
        println!("{}", package.name);
        report.add(&package.name, &krate);
    }
    report.close()
}

/// A package of the workspace, and the file of its crate root.
struct Package {
    name: String,
    root: PathBuf,
}

/// The packages that the workspace's manifest names.
fn packages() -> Outcome<Vec<Package>> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml"))?;
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ["));
    let members =
        members.and_then(|line| line.split_once(']')).ok_or("Cargo.toml names no members")?.0;
    let members = members.split(',').map(|member| member.trim().trim_matches('"'));
    let mut packages = Vec::new();
    for folder in std::iter::once("").chain(members) {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml"))?;
        let name =
            manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        let name = name.ok_or_else(|| format!("{folder}/Cargo.toml has no name"))?.to_owned();
        let files = ["src/lib.rs", "src/main.rs"].map(|file| Path::new(folder).join(file));
        let file = files.into_iter().find(|file| root().join(file).is_file());
        packages.push(Package {
            root: file.ok_or_else(|| format!("{folder} has no crate root"))?,
            name,
        });
    }
    Ok(packages)
}

/// What was found in all crates.
#[derive(Default)]
struct Report {
    /// A text for each circle.
    circles: Vec<String>,
    /// Indices of the exceptions that were needed.
    needed: BTreeSet<usize>,
}

impl Report {
    /// Prints the layers of a crate, and notes its circles.
    fn add(&mut self, package: &str, krate: &Crate) {
        let edges = krate.edges();
        for (index, module) in krate.modules.iter().enumerate() {
            if module.children.len() < 2 {
                continue;
            }
            let scope = Scope::new(krate, &edges, index);
            let (graph, needed) = scope.graph(package);
            self.needed.extend(needed);
            if index != 0 {
                println!("  in {}", module.path.join("::"));
            }
            for (height, layer) in graph.layers().iter().enumerate() {
                let names: Vec<&str> = layer.iter().map(|&node| &*graph.names[node]).collect();
                println!("{:>6}  {}", height + 1, names.join("  "));
            }
            for circle in graph.circles() {
                self.circles.push(scope.describe(package, &graph, &circle));
            }
        }
    }

    fn close(&self) -> Outcome {
        for circle in &self.circles {
            eprintln!("\n{circle}");
        }
        let idle = |index: &usize| !self.needed.contains(index);
        for exception in (0..EXCEPTIONS.len()).filter(idle).map(|index| &EXCEPTIONS[index]) {
            let Exception { package, from, to, reason } = exception;
            eprintln!("\nnot needed any more: {package}: {from} -> {to} ({reason})");
        }
        match (self.circles.len(), self.needed.len() == EXCEPTIONS.len()) {
            (0, true) => Ok(()),
            (0, false) => {
                Err("exceptions in xtask/src/layers/mod.rs are not needed any more".into())
            }
            (count, _) => Err(format!("{count} circles of modules").into()),
        }
    }
}

/// The children of a module, and the imports between them.
struct Scope<'a> {
    krate: &'a Crate,
    /// The module whose children these are.
    parent: usize,
    names: Vec<String>,
    /// The nodes of an edge, and the edge.
    imports: Vec<(usize, usize, &'a Edge)>,
}

impl<'a> Scope<'a> {
    fn new(krate: &'a Crate, edges: &'a [Edge], parent: usize) -> Self {
        let module = &krate.modules[parent];
        let mut names: Vec<String> = Vec::new();
        for (name, _) in &module.children {
            // A module may be declared twice, once for each setting of a feature.
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let re_exports_only = |edge: &&Edge| edge.reexport && edge.from == 0;
        let of_root = |edge: &Edge| edge.from == 0 || edge.to == 0;
        if parent == 0 && edges.iter().filter(|edge| !re_exports_only(edge)).any(of_root) {
            names.push(ROOT.to_owned());
        }
        let depth = module.path.len();
        let node = |module: usize| {
            let path = &krate.modules[module].path;
            let name = path.get(depth).map_or(ROOT, |name| name);
            krate.is_in(module, parent).then(|| names.iter().position(|known| known == name))?
        };
        let import = |edge: &'a Edge| {
            let (from, to) = (node(edge.from)?, node(edge.to)?);
            let reexport = edge.reexport && edge.from == parent;
            (from != to && !reexport).then_some((from, to, edge))
        };
        let imports = edges.iter().filter_map(import).collect();
        Self { krate, parent, names, imports }
    }

    /// The graph without the exceptions of the package, and the exceptions that were left out.
    fn graph(&self, package: &str) -> (Graph, BTreeSet<usize>) {
        let mut needed = BTreeSet::new();
        let mut edges = Vec::new();
        for &(from, to, _) in &self.imports {
            let is_this = |exception: &Exception| {
                exception.package == package
                    && exception.from == self.full_name(from)
                    && exception.to == self.full_name(to)
            };
            match EXCEPTIONS.iter().position(is_this) {
                Some(exception) => drop(needed.insert(exception)),
                None => edges.push((from, to)),
            }
        }
        (Graph::new(self.names.clone(), edges), needed)
    }

    fn full_name(&self, node: usize) -> String {
        let mut path = self.krate.modules[self.parent].path.clone();
        path.push(self.names[node].clone());
        path.join("::")
    }

    /// A circle: its modules, and every import between them with its location.
    fn describe(&self, package: &str, graph: &Graph, circle: &[usize]) -> String {
        let names: Vec<String> = circle.iter().map(|&node| self.full_name(node)).collect();
        let mut text = format!("circle in {package}: {}", names.join(", "));
        let mut inside: Vec<_> = self
            .imports
            .iter()
            .filter(|(from, to, _)| circle.contains(from) && circle.contains(to))
            .map(|&(from, to, edge)| {
                let location = format!("{}:{}", self.krate.modules[edge.from].file, edge.line);
                (&graph.names[from], &graph.names[to], location, &edge.text)
            })
            .collect();
        inside.sort();
        for (from, to, location, path) in inside {
            text.push_str(&format!("\n  {from} -> {to}: {location}: {path}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The circles of a crate whose files these are; the first one is its root.
    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let map: BTreeMap<PathBuf, String> =
            files.iter().map(|(name, text)| (PathBuf::from(name), (*text).to_owned())).collect();
        let krate =
            Crate::read(Path::new(files[0].0), &|file| map.get(file).cloned()).expect("valid");
        let mut report = Report::default();
        report.add("test", &krate);
        report.circles
    }

    #[test]
    fn modules_that_import_each_other_are_a_circle() {
        let found = circles(&[
            ("src/lib.rs", "mod a;\nmod b;\nmod c;"),
            ("src/a.rs", "use crate::b::B;\npub struct A;"),
            ("src/b.rs", "pub struct B;\nfn f() { let _ = super::a::A; }"),
            ("src/c.rs", "use crate::{a::A, b::B};"),
        ]);
        assert_eq!(
            found,
            [
                "circle in test: a, b\n  a -> b: src/a.rs:1: crate::b::B\n  b -> a: src/b.rs:2: super::a::A"
            ]
        );
    }

    #[test]
    fn reexports_are_followed_to_the_definition() {
        let found = circles(&[
            ("src/lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::*;"),
            ("src/a.rs", "use crate::B;\npub struct A;"),
            ("src/b.rs", "use crate::A;\npub struct B;"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("circle in test: a, b\n"));
    }

    #[test]
    fn tests_comments_and_reexports_of_the_root_are_not_imports() {
        let found = circles(&[
            ("src/lib.rs", "mod a;\nmod b;\npub use a::A;"),
            (
                "src/a.rs",
                "//! See crate::b.\npub struct A;\n#[cfg(test)]\nmod tests { use crate::b::B; }",
            ),
            ("src/b.rs", "use crate::A;\n/// [`crate::a`]\npub struct B;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_folder_counts_as_one_and_its_files_are_compared() {
        let found = circles(&[
            ("src/lib.rs", "mod a;\nmod b;"),
            ("src/a/mod.rs", "mod x;\nmod y;\nuse x::X;\npub struct A(X);"),
            ("src/a/x.rs", "use super::A;\nuse crate::a::y::Y;\npub struct X;"),
            ("src/a/y.rs", "use super::X;\npub struct Y;"),
            ("src/b.rs", "use crate::a::A;"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("circle in test: a::x, a::y\n"), "{found:?}");
    }

    #[test]
    fn a_file_may_be_two_modules_with_its_children() {
        let versions = "#[path = \"shared/mod.rs\"]\nmod shared;\nuse crate::b::B;";
        let found = circles(&[
            ("src/lib.rs", "mod a;\nmod b;\nmod c;"),
            ("src/a.rs", versions),
            ("src/c.rs", versions),
            ("src/shared/mod.rs", "mod x;\nmod y;"),
            ("src/shared/x.rs", "use super::y::Y;\npub struct X;"),
            ("src/shared/y.rs", "use super::x::X;\npub struct Y;"),
            ("src/b.rs", "pub struct B;"),
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("circle in test: a::shared::x, a::shared::y\n"), "{found:?}");
    }

    #[test]
    fn paths_in_macros_and_through_imported_modules_count() {
        let found = circles(&[
            ("src/lib.rs", "mod a;\nmod b;"),
            ("src/a.rs", "pub fn f() { println!(\"{}\", crate::b::g()); }"),
            ("src/b.rs", "use crate::a;\npub fn g() { a::f() }"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn items_of_the_root_make_a_circle_with_it() {
        let found = circles(&[
            ("src/main.rs", "mod a;\nmod b;\nfn f() { a::g() }"),
            ("src/a.rs", "use crate::f;\npub fn g() { f() }"),
            ("src/b.rs", ""),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("circle in test: a, crate\n"), "{found:?}");
    }
}
