"""Makes failed assertions in shared modules print their values."""

import pytest

pytest.register_assert_rewrite("cuda_support", "examples", "fake_cuda", "producer")
