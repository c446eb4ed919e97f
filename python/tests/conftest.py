"""Lets failed assertions in the modules that tests share print their values."""

import pytest

pytest.register_assert_rewrite("cuda_support", "fake_cuda", "producer")
