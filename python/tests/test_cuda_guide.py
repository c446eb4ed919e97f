"""Runs the Python program of docs/cuda.md on the fake CUDA driver."""

from pathlib import Path

import pytest

import fake_cuda

pytestmark = pytest.mark.skipif(
    not fake_cuda.IS_HERE, reason="test_cuda.py runs it on the fake driver"
)


def test_the_program_of_the_page_runs():
    page = (Path(__file__).parents[2] / "docs/cuda.md").read_text(encoding="utf-8")
    program = page.split("```python\n")[1].split("```")[0]
    exec(compile(program, "docs/cuda.md", "exec"), {})
