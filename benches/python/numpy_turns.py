"""Measures NumPy for benches/benches/copy: each line of input is a request, answered by one line of output."""

import statistics
import sys
import time

import numpy as np

HUGE_PAGE_BYTES = 2 << 20

source = target = None


def huge_pages(length, dtype):
    """Ones that begin at a huge page: NumPy asks for huge pages in large arrays, but begins them anywhere."""
    spare = HUGE_PAGE_BYTES // np.dtype(dtype).itemsize
    base = np.ones(length + spare, dtype)
    skipped = -base.ctypes.data % HUGE_PAGE_BYTES // base.itemsize
    return base[skipped : skipped + length]


def view(dtype, length, shape, strides, offset):
    """A strided view of memory, with shape and strides in elements."""
    base = huge_pages(length, dtype)
    strides = [stride * base.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(base[offset:], shape, strides)


def numbers(text):
    return [int(number) for number in text.split(",")] if text else []


def clone_and_drop():
    """The time in nanoseconds of a contiguous copy into a new array, and of the array's release."""
    start = time.perf_counter_ns()
    source.copy()
    return time.perf_counter_ns() - start


for line in sys.stdin:
    what, *words = line.rstrip("\n").split(" ")
    if what == "version":
        print(np.__version__, flush=True)
    elif what == "case":
        dtype, length, shape, strides, offset = words
        source = target = None
        source = view(dtype, int(length), numbers(shape), numbers(strides), int(offset))
        print("ready", flush=True)
    elif what == "used":
        if target is None:
            target = huge_pages(source.size, source.dtype).reshape(source.shape)
        start = time.perf_counter_ns()
        np.copyto(target, source)
        print(time.perf_counter_ns() - start, flush=True)
    elif what == "fresh":
        print(clone_and_drop(), flush=True)
    else:
        # The first call is not counted: another contender may have used the caches.
        clone_and_drop()
        print(statistics.median(clone_and_drop() for _ in range(int(words[0]))), flush=True)
