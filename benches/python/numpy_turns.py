"""Measures NumPy for benches/benches/copy.rs: each line of input is a request, answered by one line of output."""

import sys
import time

import numpy as np

source = target = None


def view(dtype, length, shape, strides, offset):
    """A strided view of fresh memory, with shape and strides in elements."""
    base = np.ones(length, dtype)
    strides = [stride * base.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(base[offset:], shape, strides)


def numbers(text):
    return [int(number) for number in text.split(",")] if text else []


for line in sys.stdin:
    what, *words = line.rstrip("\n").split(" ")
    if what == "version":
        print(np.__version__, flush=True)
    elif what == "case":
        dtype, length, shape, strides, offset = words
        source = target = None
        source = view(dtype, int(length), numbers(shape), numbers(strides), int(offset))
        target = np.ones(source.shape, source.dtype)
        print("ready", flush=True)
    else:
        start = time.perf_counter_ns()
        if what == "used":
            np.copyto(target, source)
        else:
            fresh = source.copy()
        end = time.perf_counter_ns()
        fresh = None
        print(end - start, flush=True)
