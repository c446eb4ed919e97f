"""A million exchanges leak neither memory nor references."""

import gc
import sys

import numpy as np
import pytest
import torch

import dlbridge as dl

ROUNDS = 1_000_000
# The bytes that an allocator may keep. A leak of 8 bytes per exchange would be 8 MB.
SLACK = 4 << 20

ARRAY, TENSOR = np.ones((4, 4), np.float32), torch.ones(4, 4)
SHARED = dl.from_dlpack(TENSOR)
REVERSED, GRADIENT = dl.from_numpy(ARRAY[::-1]), torch.ones(2, requires_grad=True)
PACKED = dl.from_dlpack(b"\0" * 8)


def refused(exchange, x):
    try:
        exchange(x)
    except (BufferError, ValueError, TypeError):
        return
    raise AssertionError("not refused")


EXCHANGES = {
    "from NumPy": (ROUNDS, lambda: dl.from_dlpack(ARRAY)),
    "from PyTorch": (ROUNDS, lambda: dl.from_dlpack(TENSOR)),
    "from a buffer": (ROUNDS // 4, lambda: dl.from_dlpack(memoryview(ARRAY))),
    "from a capsule": (ROUNDS // 4, lambda: dl.from_dlpack(ARRAY.__dlpack__(max_version=(1, 0)))),
    "to NumPy": (ROUNDS, lambda: np.from_dlpack(SHARED)),
    "to PyTorch": (ROUNDS // 2, lambda: torch.from_dlpack(SHARED)),
    "numpy()": (ROUNDS // 2, lambda: SHARED.numpy()),
    "torch()": (ROUNDS // 2, lambda: SHARED.torch()),
    "a capsule that no consumer takes": (
        ROUNDS // 2,
        lambda: SHARED.__dlpack__(max_version=(1, 0)),
    ),
    "a legacy capsule that no consumer takes": (ROUNDS // 2, lambda: SHARED.__dlpack__()),
    "clone": (ROUNDS // 2, lambda: SHARED.clone()),
    "a copy for PyTorch's sake": (ROUNDS // 4, lambda: torch.from_dlpack(REVERSED)),
    "tolist and repr": (ROUNDS // 20, lambda: (SHARED.tolist(), repr(SHARED))),
    "pickled": (ROUNDS // 20, lambda: SHARED.__reduce_ex__(5)),
    "refused by us": (ROUNDS // 20, lambda: refused(dl.from_dlpack, GRADIENT)),
    "refused a capsule": (ROUNDS // 20, lambda: refused(lambda x: x.__dlpack__(), PACKED)),
    "refused for PyTorch": (ROUNDS // 20, lambda: refused(dl.Tensor.torch, PACKED)),
}


def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))


def counts():
    gc.collect()
    return [
        sys.getrefcount(x)
        for x in (ARRAY, TENSOR, SHARED, REVERSED, GRADIENT, PACKED, dl.Tensor, np.ndarray)
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_conversions_leak_nothing(exchange):
    rounds, run = EXCHANGES[exchange]
    before = counts()
    for _ in range(rounds // 10):  # until caches are warm
        run()
    size = resident()
    for _ in range(rounds):
        run()
    assert resident() - size < SLACK
    assert counts() == before


def test_leak_check_detects_a_leak():
    kept = []
    size = resident()
    for _ in range(ROUNDS // 10):
        kept.append(SHARED.__dlpack__())
    assert resident() - size > SLACK


def test_memory_lives_as_long_as_any_view():
    import weakref

    class Watched(np.ndarray):
        """An array that can have weak references."""

    for make in (
        lambda t: np.from_dlpack(t)[1:],
        lambda t: torch.from_dlpack(t)[1:].numpy(),
        lambda t: torch.from_dlpack(t).untyped_storage(),
        lambda t: memoryview(t)[1:],
        lambda t: t.numpy().T,
        lambda t: t.torch().view(-1),
        lambda t: dl.from_dlpack(dl.from_dlpack(t)),
        lambda t: t.__dlpack__(),
    ):
        watched = np.arange(4.0).view(Watched)
        gone = weakref.ref(watched)
        view = make(dl.from_numpy(watched))
        del watched
        gc.collect()
        assert gone() is not None
        del view
        gc.collect()
        assert gone() is None
    # A clone owns its memory.
    watched = np.arange(4.0).view(Watched)
    gone, clone = weakref.ref(watched), dl.tensor(watched)
    del watched
    assert gone() is None and clone.tolist() == [0.0, 1.0, 2.0, 3.0]
    # A storage that is replaced by another is released at once.
    watched = np.arange(4.0).view(Watched)
    gone, tensor = weakref.ref(watched), dl.from_numpy(watched).torch()
    del watched
    tensor.set_(torch.ones(2, dtype=torch.float64))
    assert gone() is None
    with pytest.raises(RuntimeError, match="resiz"):
        dl.from_numpy(np.arange(4.0)).torch().resize_(100)
