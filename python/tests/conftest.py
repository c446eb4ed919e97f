"""Lets failed assertions in the modules that tests share print their values."""

import pytest

pytest.register_assert_rewrite("cuda_support", "examples", "fake_cuda", "producer")
