"""Fixtures of the tests on a CUDA device, which are skipped if the device or a library is missing."""

import gc
import os

import pytest

# Without this, JAX would allocate most of the device's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


@pytest.fixture(autouse=True)
def device():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no CUDA device")
    yield
    # Work that a test left on its streams must not affect the next test.
    gc.collect()
    torch.cuda.synchronize()


@pytest.fixture
def cupy(device):
    return pytest.importorskip("cupy", exc_type=ImportError)


@pytest.fixture
def jax(device):
    jax = pytest.importorskip("jax", exc_type=ImportError)
    try:
        jax.devices("cuda")
    except RuntimeError as error:
        pytest.skip(f"JAX finds no CUDA device: {error}")
    return jax
