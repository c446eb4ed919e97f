"""The type stubs agree with the module, with its help and with type checkers."""

import inspect
import pickle
import subprocess
import sys
import weakref

import pytest

import dlbridge as dl
from examples import DOCSTRINGS, blocks_of, find

# Python has `__buffer__` from 3.12 on. mypy takes a cached function for one with any arguments.
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
    (tmp_path / "guide.py").write_text("".join(blocks_of("docs/python.md", "Typing")))
    options = ["--warn-unused-ignores", "--follow-imports=silent"]
    command = [sys.executable, "-m", "mypy", *options, "use.py", "guide.py"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_help_matches_the_stubs(name):
    public = find(name)
    assert inspect.getdoc(public) == DOCSTRINGS[name]
    if callable(public) and not isinstance(public, type):
        assert inspect.signature(public)


def test_everything_public_is_in_the_stubs():
    names = {name for name in dl.__all__ if name != "__version__"}
    members = {f"Tensor.{name}" for name in vars(dl.Tensor) if not name.startswith("_")}
    assert names | members <= DOCSTRINGS.keys()
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
