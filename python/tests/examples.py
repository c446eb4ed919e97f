"""Finds the examples in the documentation: in docstrings, and in the Python blocks of the guides."""

import ast
import doctest
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import dlbridge as dl

ROOT = Path(__file__).absolute().parents[2]
STUBS = Path(dl.__file__).with_suffix(".pyi")


def docstrings():
    """Maps each name that the stubs document to its docstring; the module's name is ""."""
    stubs = ast.parse(STUBS.read_text())
    texts = {"": ast.get_docstring(stubs)}
    classes = [node for node in stubs.body if isinstance(node, ast.ClassDef)]
    for prefix, nodes in [("", stubs.body), *((f"{c.name}.", c.body) for c in classes)]:
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
                texts[prefix + node.name] = ast.get_docstring(node)
    return texts


DOCSTRINGS = docstrings()


def find(name):
    """The object of the module that has this name."""
    public = dl
    for part in filter(None, name.split(".")):
        public = getattr(public, part)
    return public


def sections_of(page):
    """The title and the text of each section of a page, fenced blocks included."""
    title, text = "", []
    fenced = False
    for line in (ROOT / page).read_text().splitlines(keepends=True):
        fenced ^= line.startswith("```")
        if not fenced and (heading := re.match("##+ (.*)", line)):
            yield title, "".join(text)
            title, text = heading[1], []
        text.append(line)
    yield title, "".join(text)


def blocks_of(page, section=None):
    """The Python blocks of a page, or of one of its sections."""
    return [
        block
        for title, text in sections_of(page)
        if section in (None, title)
        for block in re.findall("^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    ]


def imports(source):
    """The packages that a program imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


EXAMPLES = {name: text for name, text in DOCSTRINGS.items() if ">>>" in text}
ON_CUDA = {"Tensor.cuda", "Tensor.pin_memory", "Tensor.__cuda_array_interface__"}


def run_docstring(name):
    """Runs the example in a docstring, and skips the test if the example needs a missing package."""
    space = {"np": np, "torch": torch, "dl": dl}
    test = doctest.DocTestParser().get_doctest(EXAMPLES[name], space, name, str(STUBS), 0)
    for example in test.examples:
        for package in imports(example.source):
            pytest.importorskip(package)
    assert doctest.DocTestRunner().run(test).failed == 0
