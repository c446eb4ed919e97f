"""The texts of errors in Python, as docs/errors.md has them.

`DLBRIDGE_BLESS=1` writes the page instead of comparing it.
"""

import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import dlbridge as dl
from producer import HostileProducer

torch = pytest.importorskip("torch")

PAGE = Path(__file__).parents[2] / "docs/errors.md"
LABEL = "Python  "
CUDA = (2, 0)
METAL = (8, 0)
FLOAT32 = (2, 32, 1)


# A producer's struct does not keep the producer.
PRODUCERS = []


def given(**description):
    """A tensor of memory that a producer describes."""
    PRODUCERS.append(HostileProducer(**description))
    return dl.from_dlpack(PRODUCERS[-1])


def read_only():
    array = np.zeros(2, "float32")
    array.flags.writeable = False
    return dl.from_dlpack(array)


def ones():
    return torch.ones(2, 2)


# Errors of the core crate: the section, and what provokes them.
CORE = [
    ("UnsupportedVersion", lambda: given(version=(2, 0))),
    ("InvalidDescriptor", lambda: given(shape=(2, -1), strides=(1, 1))),
    ("Overflow", lambda: given(shape=(2**62, 8), strides=(8, 1))),
    ("DTypeMismatch", lambda: dl.copyto(np.zeros(2), np.zeros(2, "float32"))),
    ("UnsupportedDType", lambda: given(shape=(2, 2), strides=(4, 2), dtype=(17, 4, 1)).clone()),
    ("UnsupportedDevice", lambda: given(device=METAL).clone()),
    ("NotOnCpu", lambda: given(device=CUDA).numpy()),
    ("ShapeMismatch", lambda: dl.copyto(np.zeros(3), np.zeros(2))),
    (
        "SelfOverlap",
        lambda: dl.copyto(
            np.lib.stride_tricks.as_strided(np.zeros(2), (2, 2), (0, 8)), np.zeros((2, 2))
        ),
    ),
    ("NegativeStride", lambda: dl.from_dlpack(np.zeros(2)[::-1]).torch()),
    ("NegativeStride", lambda: dl.from_dlpack(np.zeros(2)[::-1]).__dlpack__(copy=False)),
    ("ReadOnly", lambda: dl.copyto(read_only(), np.zeros(2, "float32"))),
    ("ReadOnly", lambda: read_only().__dlpack__()),
    ("ReadOnly (libtorch)", lambda: read_only().torch()),
]

# Errors of the Python module only: the section, and an expression.
OWN = [
    ("Arguments", "dl.tensor([[1, 2], [3]])"),
    ("Arguments", "dl.tensor([1, 'a'])"),
    ("Arguments", "dl.tensor([[1], [np.zeros(2)]])"),
    ("Arguments", "dl.tensor([1, 300], dtype='uint8')"),
    ("Arguments", "dl.tensor([1.5], dtype='int64')"),
    ("Arguments", "dl.tensor([2**63])"),
    ("Arguments", "dl.tensor([1.0], dtype=torch.float8_e5m2)"),
    ("Arguments", "dl.tensor(np.zeros(2), dtype='float32')"),
    ("Arguments", "dl.tensor([1.0], dtype='f4')"),
    ("Arguments", "dl.tensor(range(2))"),
    ("Arguments", "dl.from_dlpack(np.ndarray)"),
    ("Arguments", "dl.from_dlpack(object())"),
    ("Arguments", "dl.from_numpy([1, 2])"),
    ("Arguments", "dl.clone([1, 2])"),
    ("Arguments", "dl.from_dlpack(x.__dlpack__(), device='cpu')"),
    ("Arguments", "dl.from_dlpack(x, copy='no')"),
    ("Arguments", "x.to('gpu')"),
    ("Arguments", "x.to('float16')"),
    ("Arguments", "x.to(torch.float16)"),
    ("Arguments", "x.stride(2)"),
    ("Arguments", "x.clone(memory_format='channels_first')"),
    ("Arguments", "x.clone(memory_format='channels_last')"),
    ("Arguments", "dl.contiguous(x, memory_format='preserve_format')"),
    ("Arguments", "x.__dlpack__(stream=7)"),
    ("Arguments", "x.__dlpack__(max_version=1)"),
    ("copyto", "dl.copyto(np.zeros(2), [1.0, 2.0])"),
    ("copyto", "dl.copyto([1.0, 2.0], np.zeros(2))"),
    ("copyto", "dl.copyto(np.float32(1), np.float32(2))"),
    ("copyto", "dl.copyto(x, np.zeros((2, 3), 'uint8'))"),
    ("copyto", "dl.copyto(x, torch.zeros(2, 3, dtype=torch.uint8))"),
    ("copyto", "dl.copyto(np.zeros((3, 4, 5)), np.zeros((4, 5, 3)))"),
    ("copyto", "dl.copyto(np.zeros((3, 4, 5)), torch.zeros(4, 5, 3))"),
    ("copyto", "dl.copyto(x, np.zeros(3, 'float32'))"),
    ("copyto", "dl.copyto(x, torch.zeros(2, 1))"),
    ("copyto", "dl.copyto(np.zeros(2, '>f4'), np.zeros(2, 'float32'))"),
    ("copyto", "dl.copyto(np.zeros(2), np.zeros(2, 'datetime64[s]'))"),
    ("copyto", "dl.copyto(x, ones().to_sparse())"),
    ("copyto", "dl.copyto(ones().to_sparse(), x)"),
    ("copyto", "dl.copyto(ones().requires_grad_(), x)"),
    ("Elements", "x.item()"),
    ("Elements", "bool(x)"),
    ("Elements", "format(x, '.1f')"),
    ("Elements", "x[0]"),
    ("Elements", "x.size"),
    ("Elements", "len(dl.from_dlpack(np.array(1.0)))"),
    ("Elements", "iter(dl.from_dlpack(np.array(1.0)))"),
    ("Elements", "given(dtype=(10, 8, 1)).tolist()"),
    ("Exports", "x.__cuda_array_interface__"),
    ("Exports", "given(device=CUDA).__array_interface__"),
    ("Exports", "given(dtype=(4, 16, 1)).__array_interface__"),
    ("Exports", "memoryview(given(dtype=(4, 16, 1)))"),
    ("Exports", "memoryview(given(device=CUDA))"),
    ("Exports", "given(dtype=(2, 32, 4)).numpy()"),
    ("Exports", "given(dtype=(2, 32, 4)).torch()"),
    ("Exports", "x.__dlpack__(dl_device=METAL)"),
    ("Imports", "dl.from_dlpack(np.zeros(2, '>f4'))"),
    ("Imports", "dl.from_numpy(np.zeros(2, '>f4'))"),
    ("Imports", "dl.from_dlpack(np.zeros(2, 'datetime64[s]'))"),
    ("Imports", "dl.from_dlpack(np.array(['a']))"),
    ("Imports", "dl.from_dlpack(np.zeros(2, 'i1, f4')['f1'])"),
    ("Imports", "dl.from_dlpack(np.ma.masked_array([1], [True]))"),
    ("Imports", "given(dtype=(99, 8, 1))"),
    ("Imports", "dl.from_dlpack(np.float32(1), copy=False)"),
    ("PyTorch tensors", "dl.from_dlpack(torch.ones(2).requires_grad_())"),
    ("PyTorch tensors", "dl.tensor(torch.ones(2).requires_grad_())"),
    ("PyTorch tensors", "dl.from_dlpack(ones().to_sparse())"),
    ("PyTorch tensors", "dl.from_dlpack(torch.ones(2, dtype=torch.complex64).conj())"),
    ("PyTorch tensors", "dl.from_dlpack(torch.ones(2, dtype=torch.complex64).conj().imag)"),
    ("PyTorch tensors", "dl.from_dlpack(torch.nested.nested_tensor([ones(), ones()]))"),
    ("PyTorch tensors", "dl.from_dlpack(torch.ones(2, device='meta'))"),
]


def raised(call):
    """What a call raises, on one line."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return f"{caught.type.__name__}: {caught.value}"


def texts():
    """The sections and the lines that they must have."""
    for section, call in CORE:
        yield section, raised(call)
    names = {**globals(), "x": dl.from_dlpack(np.zeros((2, 3), "float32"))}
    for section, expression in OWN:
        text = raised(partial(eval, expression, names))
        yield section, f"{expression}  {text}"


def with_lines(page, expected):
    """The page, with these lines for Python."""

    def replaced(found):
        others = [line for line in found[3].splitlines(keepends=True) if not line.startswith(LABEL)]
        lines = [f"{LABEL}{line}\n" for line in expected.pop(found[2], [])]
        return found[1] + "".join(others + lines) + "```"

    page = re.sub(r"(?ms)(^### ([^\n]+)\n[^#]*?```text\n)(.*?)```", replaced, page)
    assert not expected, f"docs/errors.md has no sections {list(expected)}"
    return page


@pytest.mark.filterwarnings("ignore")
def test_the_page_has_the_texts_of_python():
    expected = {}
    for section, text in texts():
        assert "\n" not in text
        expected.setdefault(section, []).append(text)
    page = PAGE.read_text()
    written = with_lines(page, expected)
    if "DLBRIDGE_BLESS" in os.environ:
        PAGE.write_text(written)
    else:
        assert page.splitlines() == written.splitlines(), "DLBRIDGE_BLESS=1 writes the page"


@pytest.mark.filterwarnings("ignore")
def test_no_text_has_the_names_of_another_language():
    for _, text in texts():
        for foreign in ["deep_clone", "dlb_", "to_vec", "assume_", "::", "to_ndarray"]:
            assert foreign not in text
