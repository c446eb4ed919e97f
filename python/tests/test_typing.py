"""What the stubs say is what there is."""

import ast
import doctest
import inspect
import pathlib
import pickle
import subprocess
import sys
import weakref

import pytest

import dlbridge as dl

STUBS = pathlib.Path(dl.__file__).with_suffix(".pyi")


# Python shows __buffer__ from 3.12 on; a cached function seems to take anything.
ALLOWED = "dlbridge.Tensor.__buffer__\ndlbridge.matrix.load\n"


def test_stubs_agree_with_the_module(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "allowed").write_text(ALLOWED)
    options = ["--ignore-missing-stub", "--ignore-unused-allowlist", "--allowlist", "allowed"]
    command = [sys.executable, "-m", "mypy.stubtest", "dlbridge", *options]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


USE = """
import numpy as np
import torch
import dlbridge as dl

tensor: dl.Tensor = dl.from_numpy(np.ones(3))
array: np.ndarray = dl.clone(np.ones(3))
copied: torch.Tensor = dl.contiguous(torch.ones(3))
shape: tuple[int, ...] = tensor.shape
view: memoryview = memoryview(tensor)
tensor.clone(memory_format="channels_last")
tensor.clone(memory_format=torch.contiguous_format)
tensor.to("cpu", copy=True).cuda(0).cuda("cuda:0")
stride: int = tensor.stride(0)
number: float = float(tensor)
buffer: memoryview = dl.clone(b"abc")
"""
MISUSE = {
    'tensor.clone(memory_format="rows")': "arg-type",
    "dl.from_numpy([1.0])": "arg-type",
    "tensor.shape = (1,)": "misc",
    "dl.copyto(tensor)": "call-arg",
    "class Mine(dl.Tensor): ...": "misc",
}


def test_type_checkers_accept_use_and_refuse_misuse(tmp_path):
    pytest.importorskip("mypy")
    wrong = "".join(f"{line}  # type: ignore[{code}]\n" for line, code in MISUSE.items())
    (tmp_path / "use.py").write_text(USE + wrong)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--warn-unused-ignores",
        "--follow-imports=silent",
        "use.py",
    ]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_examples_in_the_stubs_run():
    """The stubs hold the documentation; their examples are run as they stand."""
    examples = doctest.DocTestParser().get_doctest(STUBS.read_text(), {}, STUBS.name, str(STUBS), 0)
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0


@pytest.mark.parametrize("folder", ["", "python"])
def test_the_readmes_examples_run(folder):
    readme = pathlib.Path(__file__).parents[2] / folder / "README.md"
    blocks = [block.split("```")[0] for block in readme.read_text().split("```python\n")[1:]]
    assert blocks
    space: dict[str, object] = {}
    for block in blocks:
        exec(block, space)


def documented():
    """Everything that the stubs document, by name, with its docstring."""
    stubs = ast.parse(STUBS.read_text())
    texts = {"": ast.get_docstring(stubs)}
    for prefix, nodes in [
        ("", stubs.body),
        *((n.name + ".", n.body) for n in stubs.body if isinstance(n, ast.ClassDef)),
    ]:
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
                texts[prefix + node.name] = ast.get_docstring(node)
    return texts


@pytest.mark.parametrize("name", documented())
def test_help_matches_the_stubs(name):
    public = dl
    for part in filter(None, name.split(".")):
        public = getattr(public, part)
    assert inspect.getdoc(public) == documented()[name]
    if callable(public) and not isinstance(public, type):
        assert inspect.signature(public)


def test_everything_public_is_in_the_stubs():
    names = {name for name in dl.__all__ if name != "__version__"}
    members = {f"Tensor.{name}" for name in vars(dl.Tensor) if not name.startswith("_")}
    assert names | members <= documented().keys()
    assert {getattr(dl, name).__module__ for name in names} == {"dlbridge"}


def test_class_can_be_pickled_but_not_subclassed():
    assert dl.Tensor.__module__ == "dlbridge" and pickle.loads(pickle.dumps(dl.Tensor)) is dl.Tensor
    with pytest.raises(TypeError):
        dl.Tensor()
    with pytest.raises(TypeError):
        type("Mine", (dl.Tensor,), {})
    tensor = dl.from_dlpack(b"abc")
    with pytest.raises(AttributeError):
        tensor.shape = (1,)
    assert weakref.ref(tensor)() is tensor
    assert tensor != dl.from_dlpack(b"abc") and len({tensor, tensor}) == 1
