"""Busy streams, so that work on other streams runs too early unless it waits for them."""

from functools import cache

import pytest

torch = pytest.importorskip("torch")

SECONDS = 0.2


@cache
def cycles():
    """The number of cycles for which the device spins in `SECONDS`."""
    torch.cuda._sleep(1_000_000)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    torch.cuda._sleep(50_000_000)
    end.record()
    end.synchronize()
    return int(50_000_000 * SECONDS / (start.elapsed_time(end) / 1000))


def hold(stream=None):
    """Keeps a stream of PyTorch (by default the current one) busy for `SECONDS`."""
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
