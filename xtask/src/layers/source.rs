//! The modules of a crate, and which of them imports from which, read from its source.
//!
//! `Crate::read` follows the `mod` lines from the crate root. A module notes what it defines, what
//! its `use` lines bind, and every path in its code (macros included) that may name another module.
//! `Crate::edges` resolves these paths: through re-exports, to the module that defines the item.
//! Modules and items that exist in tests only are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::Outcome;

/// Stops resolving re-exports that refer to each other.
const MAX_REEXPORTS: usize = 16;

/// A path in the source of a module: names, and the line of the first one.
#[derive(Clone)]
struct Mention {
    names: Vec<String>,
    line: usize,
    /// The line is a re-export, `pub use`.
    reexport: bool,
}

#[derive(Default)]
pub(super) struct Module {
    /// Names from the crate root on; none for the root itself.
    pub(super) path: Vec<String>,
    /// The file, relative to the workspace.
    pub(super) file: String,
    parent: usize,
    pub(super) children: Vec<(String, usize)>,
    defines: BTreeSet<String>,
    /// What `use` lines bind: a name, and the path that it stands for.
    bindings: BTreeMap<String, Vec<String>>,
    /// Paths that `use` lines import everything from.
    globs: Vec<Vec<String>>,
    mentions: Vec<Mention>,
}

/// An import of something that the module `to` defines by the module `from`.
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) reexport: bool,
}

/// The modules of a crate; the first one is the root.
pub(super) struct Crate {
    pub(super) modules: Vec<Module>,
}

impl Crate {
    /// Reads a crate from its root file. `source` returns the text of a file, or `None` if there is
    /// no such file.
    pub(super) fn read(root: &Path, source: &dyn Fn(&Path) -> Option<String>) -> Outcome<Self> {
        let mut this = Self { modules: Vec::new() };
        let folder = root.parent().unwrap_or(Path::new(""));
        this.read_file(Position { parent: 0, path: Vec::new(), file: root, folder }, source)?;
        Ok(this)
    }

    fn read_file(
        &mut self,
        position: Position<'_>,
        source: &dyn Fn(&Path) -> Option<String>,
    ) -> Outcome<usize> {
        let file = position.file;
        let text = source(file).ok_or_else(|| format!("there is no {}", file.display()))?;
        let parsed = syn::parse_file(&text).map_err(|error| {
            let line = error.span().start().line;
            format!("{}:{line}: {error}", file.display())
        })?;
        self.read_items(position, &parsed.items, source)
    }

    /// Adds a module with these items, and the modules in it.
    fn read_items(
        &mut self,
        position: Position<'_>,
        items: &[syn::Item],
        source: &dyn Fn(&Path) -> Option<String>,
    ) -> Outcome<usize> {
        let mut module = Module {
            path: position.path.clone(),
            file: position.file.display().to_string(),
            parent: position.parent,
            ..Module::default()
        };
        items.iter().for_each(|item| module.visit_item(item));
        let this = self.modules.len();
        self.modules.push(module);
        for item in items {
            let syn::Item::Mod(child) = item else { continue };
            if only_in_tests(&child.attrs) {
                continue;
            }
            let name = child.ident.to_string();
            let path = [&position.path[..], std::slice::from_ref(&name)].concat();
            let folder = position.folder.join(&name);
            let index = if let Some((_, items)) = &child.content {
                self.read_items(
                    Position { parent: this, path, file: position.file, folder: &folder },
                    items,
                    source,
                )?
            } else {
                // The modules in `x.rs` and in `x/mod.rs` are in the folder `x`. Those in a file
                // that an attribute names are in the folder of that file.
                let named = path_attribute(&position, child);
                let folder = named.as_ref().and_then(|file| file.parent()).unwrap_or(&folder);
                let file = named.clone().unwrap_or_else(|| file_of(&position, child, source));
                self.read_file(Position { parent: this, path, file: &file, folder }, source)?
            };
            self.modules[this].children.push((name, index));
        }
        Ok(this)
    }

    /// The imports between different modules.
    pub(super) fn edges(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (from, module) in self.modules.iter().enumerate() {
            for mention in &module.mentions {
                if let Some(to) = self.resolve(from, &mention.names, 0)
                    && to != from
                    && !self.is_use_of_import(from, mention, to)
                {
                    let text = mention.names.join("::");
                    let Mention { line, reexport, .. } = *mention;
                    edges.push(Edge { from, to, line, text, reexport });
                }
            }
        }
        edges
    }

    /// Whether a path only uses what a `use` line imported from the same module, which is counted
    /// there.
    fn is_use_of_import(&self, from: usize, mention: &Mention, to: usize) -> bool {
        let first = &mention.names[..1];
        let imported = self.modules[from].bindings.get(&first[0]);
        // The `use` line that binds a name mentions the bound path itself.
        imported.is_some_and(|path| *path != mention.names)
            && self.resolve(from, first, 0) == Some(to)
    }

    /// The module that defines what a path in the module `from` names; `None` if it is not in this
    /// crate.
    fn resolve(&self, from: usize, names: &[String], reexports: usize) -> Option<usize> {
        if reexports > MAX_REEXPORTS {
            return None;
        }
        let (first, rest) = names.split_first()?;
        match &**first {
            "crate" => self.walk(0, rest, reexports),
            "self" => self.walk(from, rest, reexports),
            "super" => {
                let mut at = self.modules[from].parent;
                let mut rest = rest;
                while let Some(("super", further)) =
                    rest.split_first().map(|(name, rest)| (&**name, rest))
                {
                    (at, rest) = (self.modules[at].parent, further);
                }
                self.walk(at, rest, reexports)
            }
            _ if self.child(from, first).is_some() => self.walk(from, names, reexports),
            _ => {
                let bound = self.modules[from].bindings.get(first)?;
                // `use x::y as x` would stand for itself.
                let same = bound.first() == Some(first);
                (!same).then(|| self.resolve(from, &[&bound[..], rest].concat(), reexports + 1))?
            }
        }
    }

    /// Follows names from a module down.
    fn walk(&self, mut at: usize, names: &[String], reexports: usize) -> Option<usize> {
        let mut names = names;
        while let Some((name, rest)) = names.split_first() {
            match self.child(at, name) {
                Some(child) => (at, names) = (child, rest),
                None => return self.item(at, name, rest, reexports),
            }
        }
        Some(at)
    }

    /// The module that defines the item `name` of the module `at`.
    fn item(&self, at: usize, name: &str, rest: &[String], reexports: usize) -> Option<usize> {
        let module = &self.modules[at];
        if module.defines.contains(name) {
            return Some(at);
        }
        if let Some(bound) = module.bindings.get(name) {
            return self.resolve(at, &[&bound[..], rest].concat(), reexports + 1);
        }
        let from_glob = module.globs.iter().find_map(|glob| {
            let target = self.resolve(at, glob, reexports + 1)?;
            let known = &self.modules[target];
            let has = known.defines.contains(name) || known.bindings.contains_key(name);
            has.then(|| self.item(target, name, rest, reexports + 1))?
        });
        from_glob.or(Some(at))
    }

    fn child(&self, module: usize, name: &str) -> Option<usize> {
        self.modules[module]
            .children
            .iter()
            .find(|(child, _)| child == name)
            .map(|&(_, child)| child)
    }

    /// Whether a module is another one, or in it.
    pub(super) fn is_in(&self, module: usize, ancestor: usize) -> bool {
        self.modules[module].path.starts_with(&self.modules[ancestor].path)
    }
}

/// Where a module stands: its names, its file, and the folder of its child modules.
struct Position<'a> {
    parent: usize,
    path: Vec<String>,
    file: &'a Path,
    folder: &'a Path,
}

/// The file of a module that is declared with an attribute `#[path = "file"]`.
fn path_attribute(position: &Position<'_>, child: &syn::ItemMod) -> Option<PathBuf> {
    child.attrs.iter().find_map(|attribute| {
        let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
        let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) = &pair.value else {
            return None;
        };
        pair.path.is_ident("path").then(|| position.file.with_file_name(path.value()))
    })
}

/// The file of a module that its parent declares by `mod name;`.
fn file_of(
    position: &Position<'_>,
    child: &syn::ItemMod,
    source: &dyn Fn(&Path) -> Option<String>,
) -> PathBuf {
    let file = position.folder.join(format!("{}.rs", child.ident));
    if source(&file).is_some() {
        file
    } else {
        position.folder.join(child.ident.to_string()).join("mod.rs")
    }
}

/// Whether an item is compiled for tests only: `#[cfg(test)]`, `#[test]`.
pub(crate) fn only_in_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string().replace(' ', "");
            condition == "test"
                || condition.starts_with("all(test,")
                || condition.starts_with("all(doctest,")
        }
        syn::Meta::Path(path) => path.is_ident("test"),
        _ => false,
    })
}

/// Notes what an item defines and mentions.
impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if only_in_tests(attributes(item)) {
            return;
        }
        self.defines.extend(name_of(item));
        // The items of a module in it are that module's.
        if !matches!(item, syn::Item::Mod(_)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !only_in_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let reexport = !matches!(item.vis, syn::Visibility::Inherited);
        self.note_use(&item.tree, &mut Vec::new(), reexport);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.mention(names, path.segments[0].ident.span());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        visit::visit_macro(self, item);
        self.note_tokens(item.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

impl Module {
    /// Notes a path in code. A single name is a local one, or was noted where it was imported.
    fn mention(&mut self, names: Vec<String>, span: proc_macro2::Span) {
        if names.len() > 1 {
            self.mentions.push(Mention { names, line: span.start().line, reexport: false });
        }
    }

    fn note_use(&mut self, tree: &syn::UseTree, path: &mut Vec<String>, reexport: bool) {
        match tree {
            syn::UseTree::Path(step) => {
                path.push(step.ident.to_string());
                self.note_use(&step.tree, path, reexport);
                path.pop();
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_use(tree, path, reexport));
            }
            syn::UseTree::Name(name) => self.bind(&name.ident, &name.ident, path, reexport),
            syn::UseTree::Rename(rename) => {
                self.bind(&rename.ident, &rename.rename, path, reexport)
            }
            syn::UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                self.globs.push(path.clone());
                self.mentions.push(Mention { names: path.clone(), line, reexport });
            }
        }
    }

    fn bind(&mut self, name: &syn::Ident, binding: &syn::Ident, path: &[String], reexport: bool) {
        let mut names = path.to_vec();
        // `use x::{self}` names `x`.
        if name != "self" {
            names.push(name.to_string());
        }
        let binding =
            if binding == "self" { names.last().cloned() } else { Some(binding.to_string()) };
        self.bindings.extend(binding.map(|binding| (binding, names.clone())));
        self.mentions.push(Mention { names, line: name.span().start().line, reexport });
    }

    /// Notes the paths in the tokens of a macro.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_colon =
            |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == ':');
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let mut names = vec![first.to_string()];
                    while is_colon(at + 1)
                        && is_colon(at + 2)
                        && let Some(TokenTree::Ident(next)) = tokens.get(at + 3)
                    {
                        names.push(next.to_string());
                        at += 3;
                    }
                    self.mention(names, first.span());
                }
                _ => {}
            }
            at += 1;
        }
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The name that an item defines in its module.
fn name_of(item: &syn::Item) -> Option<String> {
    let name = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}
