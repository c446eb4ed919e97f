"""What the stubs say is what there is."""

import doctest
import pathlib
import subprocess
import sys

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
tensor.to("cpu", copy=True).cuda(0)
"""
MISUSE = {
    'tensor.clone(memory_format="rows")': "arg-type",
    "dl.from_numpy([1.0])": "arg-type",
    "tensor.shape = (1,)": "misc",
    "dl.copyto(tensor)": "call-arg",
    "class Mine(dl.Tensor): ...": "misc",
}


def test_type_checkers_see_use_and_misuse(tmp_path):
    pytest.importorskip("mypy")
    wrong = "".join(f"{line}  # type: ignore[{code}]\n" for line, code in MISUSE.items())
    (tmp_path / "use.py").write_text(USE + wrong)
    command = [sys.executable, "-m", "mypy", "--warn-unused-ignores", "--follow-imports=silent", "use.py"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_examples_in_the_stubs_run():
    """The stubs hold the documentation; their examples are run as they stand."""
    examples = doctest.DocTestParser().get_doctest(STUBS.read_text(), {}, STUBS.name, str(STUBS), 0)
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_the_readmes_examples_run(tmp_path):
    readme = pathlib.Path(__file__).parents[1] / "README.md"
    blocks = [block.split("```")[0] for block in readme.read_text().split("```python\n")[1:]]
    assert blocks
    space: dict[str, object] = {}
    for block in blocks:
        exec(block, space)


@pytest.mark.parametrize("name", [name for name in dl.__all__ if name != "__version__"])
def test_everything_is_documented_and_signed(name):
    import inspect

    public = getattr(dl, name)
    assert public.__doc__ and public.__module__ in ("dlbridge", "dlbridge._dlbridge", "builtins", None)
    members = (
        [public]
        if callable(public) and not isinstance(public, type)
        else [member for key, member in vars(public).items() if callable(member) and not key.startswith("_")]
    )
    for member in members:
        assert member.__doc__, member
        assert inspect.signature(member)


def test_the_class_is_what_it_seems():
    import pickle

    assert dl.Tensor.__module__ == "dlbridge" and pickle.loads(pickle.dumps(dl.Tensor)) is dl.Tensor
    with pytest.raises(TypeError):
        dl.Tensor()
    with pytest.raises(TypeError):
        type("Mine", (dl.Tensor,), {})
    with pytest.raises(AttributeError):
        dl.from_dlpack(b"abc").shape = (1,)
