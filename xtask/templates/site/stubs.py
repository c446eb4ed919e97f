"""Prints the reference of a Python module as Markdown: python stubs.py NAME FILE.

FILE is the module's stub, which is read and not imported. Docstrings are Markdown already. Names of
the module between backticks become links, and examples that begin with `>>>` become code.
"""

import ast
import inspect
import re
import sys

# The names under which the stub imports other modules, and what signatures show instead.
IMPORTS = {"_np": "numpy", "_torch": "torch", "builtins": ""}
WIDEST_SIGNATURE = 88

INTRODUCTION = """This page has the rules of each function and method. Examples are in the guides:
[Python](../docs/python.html), [several processes](../docs/python-processes.html) and
[CUDA](../docs/cuda.html)."""


class Item:
    """A class, function, method, property or constant: its signatures and its docstring."""

    def __init__(self, name, parent=None):
        self.name, self.parent = name, parent
        self.kind, self.signatures, self.docs, self.items = "", [], "", {}

    @property
    def full_name(self):
        return f"{self.parent.full_name}.{self.name}" if self.parent else self.name

    def add(self, node):
        """Adds a definition: an overloaded function has several, of which the last has the docs."""
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(text(base) for base in node.bases)
            self.kind, signature = "class", f"class {self.name}" + (f"({bases})" if bases else "")
            self.items = items_of(node.body, self)
        elif isinstance(node, ast.AnnAssign):
            self.kind = "constant" if self.parent is None else "attribute"
            signature = f"{self.name}: {text(node.annotation)}"
        else:
            decorators = {text(decorator) for decorator in node.decorator_list}
            is_property = "property" in decorators
            self.kind = "property" if is_property else "method" if self.parent else "function"
            returns = text(node.returns)
            if is_property:
                signature = f"{self.name}: {returns}"
            else:
                signature = "classmethod " * ("classmethod" in decorators) + self.name
                signature += arguments(node.args, signature, returns, skip_self=bool(self.parent))
        self.signatures.append(signature)
        if not isinstance(node, ast.AnnAssign):
            self.docs = ast.get_docstring(node) or self.docs

    def summary(self):
        """The first sentence of the docstring, in one line."""
        return " ".join(self.docs.split("\n\n")[0].split())


def text(node):
    """Source text of an annotation or a default, with the full names of other modules."""
    source = ast.unparse(node)
    for name, module in IMPORTS.items():
        source = re.sub(rf"\b{name}\.", f"{module}." if module else "", source)
    return source.replace("'", '"')


def arguments(args, name, returns, skip_self):
    """A list of arguments as Python writes it, over several lines if it is long."""
    parts = [re.sub(r"(: [^=]+)=", r"\1 = ", part.strip(), count=1) for part in split(text(args))]
    if skip_self and parts and parts[0] in ("self", "cls"):
        del parts[0]
    if parts and parts[0] == "/":  # only `self` stood before it
        del parts[0]
    line = f"({', '.join(parts)}) -> {returns}"
    if len(name) + len(line) <= WIDEST_SIGNATURE:
        return line
    return "(\n" + "".join(f"    {part},\n" for part in parts) + f") -> {returns}"


def split(source):
    """Splits a list of arguments at its commas, but not within brackets."""
    parts, depth = [""], 0
    for letter in source:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]


def items_of(body, parent=None):
    """What a module or a class defines, in its order. Private names are aliases of types."""
    items = {}
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            name = node.name
        elif isinstance(node, ast.AnnAssign):
            name = node.target.id
        else:
            continue
        if name.startswith("__") or not name.startswith("_"):
            items.setdefault(name, Item(name, parent)).add(node)
    return items


def aliases(body):
    """The types that signatures name, as one block of code."""
    lines = []
    for node in body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            union = text(node.value).split(" | ")
            value = union[0] if len(union) == 1 else "(\n    " + "\n    | ".join(union) + "\n)"
            lines.append(f"{node.target.id} = {value}")
    return "\n".join(lines)


class Page:
    """Writes the page of one module."""

    def __init__(self, items):
        self.anchors = {item.full_name for item in everything(items) if item.docs}
        self.lines = []

    def write(self, *lines):
        self.lines.extend(lines)

    def docstring(self, docs, within=None):
        """Writes a docstring: prose with links, and examples as code."""
        for paragraph in docs.split("\n\n"):
            if paragraph.startswith(">>>"):
                self.write("```python-repl", paragraph, "```", "")
            else:
                link = lambda found: self.link(found, within)  # noqa: E731
                prose = re.sub(r"`([\w.]+)(\(\))?`", link, paragraph)
                self.write(re.sub(r"docs/([\w-]+)\.md", r"[\g<0>](../docs/\1.html)", prose), "")

    def link(self, found, within):
        """A link to what stands between backticks, if the module defines it."""
        name = found[1].removeprefix("t.")
        owner = within.parent or within if within else None
        for candidate in ([f"{owner.full_name}.{name}"] if owner else []) + [name]:
            if candidate in self.anchors and (within is None or candidate != within.full_name):
                return f"[{found[0]}](#{candidate})"
        return found[0]

    def table(self, items):
        self.write("| name | what it is or does |", "|---|---|")
        for item in items:
            summary = re.sub(r"(?<!\\)\|", r"\\|", item.summary())
            call = "()" if item.kind in ("function", "method") else ""
            self.write(f"| [`{item.name}{call}`](#{item.full_name}) | {summary} |")
        self.write("")

    def item(self, item, level):
        """Writes the section of an item, and then those of its items."""
        title = f"`{item.full_name}`" if item.kind != "class" else f"class `{item.full_name}`"
        self.write(f"{'#' * level} {title} {{#{item.full_name}}}", "")
        signatures = item.signatures
        if "__new__" in item.items:
            signatures = [item.items["__new__"].signatures[0].replace("__new__", item.name, 1)]
        if signatures != [f"class {item.name}"]:
            self.write("```python", *signatures, "```", "")
        if item.kind in ("property", "attribute"):
            self.write("_Property._", "")
        self.docstring(item.docs, item)
        documented = [each for each in item.items.values() if each.docs]
        if documented:
            self.table(documented)
        for each in documented:
            self.item(each, level + 1)
        others = [each for each in item.items.values() if not each.docs and each.name != "__new__"]
        if others:
            self.write(f"{'#' * (level + 1)} Other protocols of `{item.full_name}`", "")
            self.write(
                "```python", *(line for each in others for line in each.signatures), "```", ""
            )


def everything(items):
    for item in items.values():
        yield item
        yield from everything(item.items)


def main(name, file):
    with open(file, encoding="utf-8") as stub:
        module = ast.parse(stub.read())
    items = items_of(module.body)
    page = Page(items)
    page.write(f"# The Python module {name}", "", INTRODUCTION, "")
    page.docstring(inspect.cleandoc(ast.get_docstring(module) or ""))
    documented = [item for item in items.values() if item.docs]
    page.write("## Contents", "")
    page.table(documented)
    for item in documented:
        page.item(item, 2)
    page.write("## Types in signatures", "", "```python", aliases(module.body), "```")
    print("\n".join(page.lines))


main(*sys.argv[1:])
