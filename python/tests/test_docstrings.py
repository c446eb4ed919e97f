"""The docstrings of the module have examples, which run as they stand."""

import numpy as np
import pytest

import dlbridge as dl
from examples import DOCSTRINGS, EXAMPLES, ON_CUDA, run_docstring


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in ON_CUDA])
def test_examples_run(name):
    run_docstring(name)


@pytest.mark.parametrize("name", sorted(ON_CUDA))
def test_examples_on_cuda_run(name):
    """`test_cuda_examples` runs them on the fake driver."""
    try:
        dl.tensor(np.zeros(1)).cuda()
    except BufferError as error:
        pytest.skip(f"no CUDA device: {error}")
    run_docstring(name)


def test_everything_public_has_an_example():
    members = {name for name in DOCSTRINGS if name.startswith("Tensor.")}
    assert DOCSTRINGS.keys() - members <= EXAMPLES.keys()
    assert len(members & EXAMPLES.keys()) >= 0.8 * len(members)
