"""Writes what NumPy's `str` prints for the arrays of `tests/display.rs`.

    python tests/display/numpy_str.py > tests/display/numpy_str.txt
    python tests/display/numpy_str.py 20000 > /tmp/many.txt     # random arrays instead
    DLBRIDGE_NUMPY_STR=/tmp/many.txt cargo test --test display

Each array is a line `# element type, shape, bytes of the elements`, and the lines of the text,
which begin with `|`. The bytes are little-endian. Instead of bytes, `arange` stands for the numbers
from 0.
"""

import sys

import numpy as np

FLOATS = {"float16": np.uint16, "float32": np.uint32, "float64": np.uint64}


def show(array, text=None):
    shape = ",".join(map(str, array.shape)) or "-"
    little_endian = array.astype(array.dtype.newbyteorder("<"))
    content = text or little_endian.tobytes().hex()
    print(f"# {array.dtype} {shape} {content or '-'}")
    for line in str(array).split("\n"):
        print(f"|{line}")


def arange(dtype, *shape):
    show(np.arange(int(np.prod(shape))).reshape(shape).astype(dtype), "arange")


def chosen():
    for values in [[True, False], [[True], [True]], [1, -2, 300], [[1, 20], [300, 4]], [-1, 0, 127]]:
        show(np.array(values))
    show(np.array([0, 255], np.uint8))
    show(np.array([2**64 - 1, 1], np.uint64))
    show(np.array([-(2**63), 1], np.int64))
    nan, inf = float("nan"), float("inf")
    lists = [
        [0.0],
        [-0.0],
        [1.0, 2.0],
        [1.0, 2.5, -3.125],
        [0.1, 0.2, 0.3],
        [1 / 3, 2 / 3],
        [1e-4, 1.0],
        [1e-5, 1.0],
        [0.0001],
        [1.0, 1000.0],
        [1.0, 1001.0],
        [999.5, 1.0],
        [1000.0],
        [999999.0, 1e6],
        [1e6],
        [16777216.0],
        [99999999.0],
        [1e8],
        [1e16],
        [1e-20, -1.0],
        [123456.789],
        [0.999999999],
        [9.9999999999],
        [nan, inf, -inf],
        [nan],
        [nan, 1.5],
        [inf, 1.5],
        [-inf, 1.0],
        [nan, -1.0, 100.25],
        [inf, 1e20],
        [nan, 1e-20],
        [5e-324, 1.7e308],
        [0.0, 1e-7],
        [0.5, 0.25, 0.125, 0.0625],
        [1.0, 0.12345678901],
    ]
    for values in lists:
        for dtype in FLOATS:
            with np.errstate(all="ignore"):
                show(np.array(values).astype(dtype))
                show(np.array(values[0]).astype(dtype))
    numbers = [0j, 1 + 2j, -1.5j, 1e-10 + 1j, complex(nan, 1), complex(inf, -inf), complex(-0.0, -0.0)]
    for dtype in ("complex64", "complex128"):
        show(np.array(numbers, dtype))
        show(np.array([1 + 2j, -3.25 - 0.5j], dtype))
        show(np.array([complex(nan, nan), complex(inf, 2)], dtype))
        for number in [*numbers, 1e20 + 0.1j, 1e16j, 1e7 + 123456.5j]:
            show(np.array(number).astype(dtype))
    for dtype in ("bool", "uint8", "int16", "float16", "float32", "float64", "complex64"):
        arange(dtype, 3, 4)
    for shape in [(1,), (1, 1, 1), (2, 3, 4), (2, 2, 2, 2), (60,), (2, 30), (1000,), (10, 100)]:
        arange("int64", *shape)
    for shape in [(1001,), (7, 143), (6, 167), (334, 3), (40, 50), (11, 10, 10), (2, 2, 2, 2, 2, 2, 2, 8)]:
        arange("int32", *shape)
        arange("float32", *shape)
    arange("float64", 40, 50, 2)
    arange("complex128", 1200)
    arange("bool", 1200)
    show(np.zeros((0,), np.float32))
    show(np.zeros((2, 0, 3), np.int64))
    show(np.full(9, 10**17))
    show(np.array([123456789012345678] * 2 + [-1] * 9).reshape(1, 11))
    show(np.full((2, 2, 30), 1.5))
    show(np.array([[-1e-9, 1234.5678, 3.0]] * 3))


def random(count):
    rng = np.random.default_rng(17)
    for _ in range(count):
        shape = tuple(rng.integers(1, 6, rng.integers(0, 4)))
        if rng.random() < 0.02:
            shape = tuple(rng.integers(1, 40, 2)) + (int(rng.integers(1, 12)),)
        name = rng.choice([*FLOATS, "complex64", "complex128", "int8", "uint16", "int64", "bool"])
        dtype = np.dtype(str(name))
        size = int(np.prod(shape))
        if dtype.kind in "iu":
            array = rng.integers(-(10 ** int(rng.integers(1, 18))), 10**17, size).astype(dtype)
        elif dtype.kind == "b":
            array = rng.integers(0, 2, size).astype(bool)
        else:
            parts = 2 if dtype.kind == "c" else 1
            part = np.dtype(f"f{dtype.itemsize // parts}")
            style = rng.integers(0, 5)
            if style == 0:
                bits = rng.integers(0, 2**64, parts * size, np.uint64)
                array = bits.astype(FLOATS[part.name]).view(part)
            elif style == 1:
                array = rng.normal(size=parts * size) * 10.0 ** rng.integers(-8, 12)
            elif style == 2:
                array = rng.integers(-2000, 2000, parts * size) / 8
            elif style == 3:
                array = np.round(rng.normal(size=parts * size), int(rng.integers(0, 5)))
            else:
                array = 10.0 ** rng.integers(-6, 10, parts * size)
            array = np.asarray(array).astype(part)
            if rng.random() < 0.2:
                array = np.where(rng.random(array.shape) < 0.3, rng.choice([np.nan, np.inf, -np.inf]), array)
            array = array.astype(part).view(dtype)
        show(array.reshape(shape))


with np.errstate(all="ignore"):
    random(int(sys.argv[1])) if len(sys.argv) > 1 else chosen()
