"""Streams that are kept busy, so that work on others which does not wait for them comes too early."""

from functools import cache

import pytest

torch = pytest.importorskip("torch")

SECONDS = 0.2


@cache
def cycles():
    """How many cycles the device spins in `SECONDS`."""
    torch.cuda._sleep(1_000_000)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    torch.cuda._sleep(50_000_000)
    end.record()
    end.synchronize()
    return int(50_000_000 * SECONDS / (start.elapsed_time(end) / 1000))


def hold(stream=None):
    """Has a stream of PyTorch's (its current one) do nothing for a while."""
    with torch.cuda.stream(stream):
        torch.cuda._sleep(cycles())


@cache
def torch_stream(name):
    """A stream that does not wait for the default stream, the same one for each name."""
    return torch.cuda.Stream()


@cache
def cupy_stream(name):
    import cupy

    return cupy.cuda.Stream(non_blocking=True)


def hold_cupy(stream):
    hold(torch.cuda.ExternalStream(stream.ptr))
