"""NumPy arrays whose C struct dlbridge reads: each must be shared as NumPy itself describes it."""

import copy
import pickle
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import dlbridge as dl

CUBE = np.arange(2 * 3 * 4, dtype=np.int32).reshape(2, 3, 4)


def read_only(array):
    array.flags.writeable = False
    return array


ARRAYS = {
    "whole": lambda: CUBE.copy(),
    "view of a view": lambda: CUBE[1:, ::2].T[::-1],
    "negative strides": lambda: CUBE[::-1, :, ::-2],
    "without dimensions": lambda: np.array(7.0),
    "without elements": lambda: CUBE[:, 3:, ::-1],
    "one element": lambda: CUBE[1:, 2:, ::-4],
    "broadcast": lambda: np.broadcast_to(np.arange(3), (5, 3)),
    "read-only": lambda: read_only(np.arange(3)),
    "overlapping": lambda: np.lib.stride_tricks.as_strided(np.arange(4), (3, 2), (8, 8)),
    "column-major": lambda: np.asfortranarray(CUBE),
    "64 dimensions": lambda: np.arange(2.0).reshape((1,) * 63 + (2,)),
    "over bytes": lambda: np.frombuffer(b"12345678", np.int16),
    "over a bytearray": lambda: np.frombuffer(bytearray(16), np.float64),
    "over a derived array": lambda: np.asarray(np.asmatrix(np.ones((2, 3))))[:, 1:],
    "reinterpreted": lambda: CUBE.view(np.uint16),
    "real part": lambda: np.array([1 + 2j, 3 + 4j]).real,
    "imaginary part": lambda: np.array([1 + 2j, 3 + 4j]).imag,
    "dtype with metadata": lambda: np.zeros(3, np.dtype("f4", metadata={"unit": "m"})),
    "unpickled": lambda: pickle.loads(pickle.dumps(np.arange(3.0))),
    "copied dtype": lambda: np.zeros(3, copy.copy(np.dtype("i8"))),
    "field of records": lambda: np.zeros(3, "i4,f4")["f1"],
    "bfloat16": lambda: np.ones(3, ml_dtypes.bfloat16),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("share", [dl.from_dlpack, dl.from_numpy])
def test_arrays_are_shared_as_numpy_describes_them(kind, share):
    array = ARRAYS[kind]()
    tensor = share(array)
    assert tensor.shape == array.shape and tensor.dtype == array.dtype.name
    assert tensor.readonly == (not array.flags.writeable)
    if array.size:
        assert tensor.data_ptr() == array.__array_interface__["data"][0]
        strides = tuple(stride * array.itemsize for stride in tensor.stride())
        meant = [size > 1 for size in array.shape]
        assert [s for s, m in zip(strides, meant, strict=True) if m] == [
            s for s, m in zip(array.strides, meant, strict=True) if m
        ]
    assert tensor.tolist() == array.tolist()


@pytest.mark.parametrize("code", "?bBhHiIlLqQefdFD")
def test_each_plain_type_is_shared(code):
    array = np.arange(3).astype(code)
    tensor = dl.from_dlpack(array)
    assert tensor.dtype == array.dtype.name and tensor.tolist() == array.tolist()


@pytest.mark.parametrize(
    "dtype",
    [">i4", ">f8", "<M8[s]", "m8[ns]", "g", "G", "S3", "U2", "O", "V4", "i4,f4", "T"],
)
def test_other_types_are_refused(dtype):
    with pytest.raises(BufferError, match="DLPack"):
        dl.from_dlpack(np.zeros(2, dtype))
    with pytest.raises((TypeError, ValueError)):
        dl.from_numpy(np.zeros(2, dtype))


def test_strides_that_are_no_multiple_of_the_element_are_refused():
    packed = np.zeros(3, np.dtype("u1,f4"))["f1"]
    with pytest.raises(BufferError, match="multiple of itemsize"):
        dl.from_dlpack(packed)
    assert dl.from_dlpack(packed[:1]).tolist() == [0.0]


@pytest.mark.filterwarnings("ignore:Numpy has detected:DeprecationWarning")
def test_arrays_that_warn_on_write_are_read_only():
    one, _ = np.broadcast_arrays(np.arange(3.0), np.ones((2, 3)))
    assert one.flags.num < 0 or one.flags.num >= 1 << 31 or not one.flags.writeable
    assert dl.from_dlpack(one).readonly


def test_arrays_that_change_are_shared_as_they_are_then():
    array = np.arange(6.0)
    first = dl.from_dlpack(array)
    array.flags.writeable = False
    second = dl.from_dlpack(array)
    assert (first.readonly, second.readonly) == (False, True)
    other = pickle.loads(pickle.dumps(array)).reshape(2, 3).T
    assert dl.from_dlpack(other).stride() == (1, 3)


FAKE = """
import sys, types
fake = types.ModuleType("numpy")
class ndarray:
    __array_struct__ = None
    __slots__ = tuple("abcdefghijkl")
fake.ndarray = ndarray
fake.__version__ = "2.4.0"
fake.zeros = lambda *_: ndarray()
fake.frombuffer = fake.zeros
fake.dtype = lambda code: code
sys.modules["numpy"] = fake
import dlbridge as dl
try:
    dl.from_dlpack(ndarray())
except ValueError as error:
    print(error)
"""


def test_a_module_in_the_place_of_numpy_is_not_read_as_numpy():
    done = subprocess.run(
        [sys.executable, "-c", FAKE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "PyCapsule" in done.stdout


OTHER_VERSION = """
import numpy as np
np.__version__ = "9.9.9"
import dlbridge as dl
array = np.arange(6.0).reshape(2, 3)[::-1]
for _ in range(10):
    assert dl.from_dlpack(array).tolist() == array.tolist()
    assert dl.from_numpy(array).stride() == (-3, 1)
"""


def test_other_versions_of_numpy_are_read_through_their_attributes():
    done = subprocess.run(
        [sys.executable, "-c", OTHER_VERSION],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
