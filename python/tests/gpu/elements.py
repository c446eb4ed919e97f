"""Elements of any type, their bytes, and objects that export them through one protocol only."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

WHOLE = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
BROKEN = ["float16", "float32", "float64", "complex64", "complex128"]
# CuPy and NumPy do not have these.
NARROW = ["bfloat16", "float8_e4m3fn", "float8_e5m2"]


def elements(shape, dtype, device="cuda"):
    """A row-major tensor in which neighbouring bytes differ."""
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    size = math.prod(shape) * dtype.itemsize
    numbers = (
        torch.arange(251).mul(37).remainder(251).to(torch.uint8)
    )  # so that the period of the numbers is no multiple of a chunk
    raw = numbers.remainder(2 if dtype == torch.bool else 251).repeat(size // 251 + 1)[:size]
    return raw.view(dtype).reshape(shape).to(device)


def bits(tensor):
    """A tensor's bytes in row-major order, on its device."""
    # A single element may be contiguous with any stride, which view() minds: a clone has those of
    # its shape.
    return tensor.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)


def same(one, other):
    """Whether two tensors of PyTorch have the same type, shape and bytes, NaNs included."""
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and torch.equal(bits(one), bits(other))
    )


def content(array):
    """The bytes of any library's array, in row-major order."""
    if isinstance(array, torch.Tensor):
        return bits(array.cpu()).numpy().tobytes()
    if hasattr(array, "get"):
        return array.get().tobytes()
    if hasattr(array, "numpy"):
        return content(array.cpu().torch())
    return np.asarray(array).tobytes()


def steps(array, strides):
    """The strides that count: those of dimensions of several elements."""
    shape = tuple(array.shape)
    return [
        step for size, step in zip(shape, strides, strict=True) if size > 1 and math.prod(shape) > 0
    ]


class Interface:
    """An object that offers a `__cuda_array_interface__`, and nothing else."""

    def __init__(self, array, **changes):
        self.array = array
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, **changes}


class Unordered:
    """An array as its consumer would see it if no stream waited for another."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        return self.array.__dlpack__(stream=-1, max_version=max_version, copy=copy)
