"""Examples in the documentation that need a CUDA device, on the fake CUDA driver."""

import pytest

from cuda_support import OnFakeCuda
from examples import ON_CUDA, blocks_of, run_docstring


class TestExamples(OnFakeCuda):
    @pytest.mark.parametrize("name", sorted(ON_CUDA))
    def test_docstrings(self, name):
        run_docstring(name)

    def test_the_block_in_the_guide(self):
        (block,) = blocks_of("docs/python.md", "CUDA")
        exec(block, {"__name__": "block"})
