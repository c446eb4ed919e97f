"""What tests on a CUDA device need. Where there is none, or a library is missing, they are skipped."""

import gc
import os

import pytest

# JAX would take most of the device's memory for itself.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


@pytest.fixture(autouse=True)
def device():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no CUDA device")
    yield
    # What a test left on its streams is no matter of the next one.
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
