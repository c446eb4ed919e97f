"""Export through the buffer protocol: the fields of `Py_buffer`, the bytes of every type, and lifetimes."""

import ctypes as C
import io
import itertools

import ml_dtypes
import numpy as np
import pytest
import torch

import dlbridge as dl
from producer import HostileProducer

# -- fields of Py_buffer
# --------------------------------------------------------------------------------------


class View(C.Structure):
    _fields_ = [
        ("buf", C.c_void_p),
        ("obj", C.py_object),
        ("len", C.c_ssize_t),
        ("itemsize", C.c_ssize_t),
        ("readonly", C.c_int),
        ("ndim", C.c_int),
        ("format", C.c_char_p),
        ("shape", C.POINTER(C.c_ssize_t)),
        ("strides", C.POINTER(C.c_ssize_t)),
        ("suboffsets", C.c_void_p),
        ("internal", C.c_void_p),
    ]


get_buffer = C.PYFUNCTYPE(C.c_int, C.py_object, C.POINTER(View), C.c_int)(
    ("PyObject_GetBuffer", C.pythonapi)
)
release_buffer = C.PYFUNCTYPE(None, C.POINTER(View))(("PyBuffer_Release", C.pythonapi))

SIMPLE, WRITABLE, FORMAT, ND = 0, 1, 4, 8
STRIDES = 0x10 | ND
C_CONTIGUOUS, F_CONTIGUOUS, ANY_CONTIGUOUS = 0x20 | STRIDES, 0x40 | STRIDES, 0x80 | STRIDES
INDIRECT = 0x100 | STRIDES
REQUESTS = [
    layout | extra
    for layout in (SIMPLE, ND, STRIDES, C_CONTIGUOUS, F_CONTIGUOUS, ANY_CONTIGUOUS, INDIRECT)
    for extra in (0, WRITABLE, FORMAT, WRITABLE | FORMAT)
]


def fields(exporter, request):
    view = View()
    try:
        get_buffer(exporter, view, request)
    except (BufferError, ValueError):
        return None
    numbers = [start[: view.ndim] if start else None for start in (view.shape, view.strides)]
    seen = (view.ndim, view.len, view.itemsize, view.format, view.readonly, *numbers)
    assert view.suboffsets is None and (view.buf or view.len == 0)
    release_buffer(view)
    return seen


def read_only(array):
    array.flags.writeable = False
    return array


ARRAYS = {
    "0-d": np.array(5, "i4"),
    "0-d read-only": read_only(np.array(5.0)),
    "1-d": np.arange(3, dtype="i2"),
    "reversed": np.arange(3.0)[::-1],
    "row-major": np.zeros((2, 3), "f4"),
    "column-major": np.zeros((2, 3)).T,
    "neither": np.zeros((4, 6))[::2, ::3],
    "empty": np.zeros(0),
    "empty 2-d": np.zeros((3, 0)),
    "read-only": read_only(np.zeros((2, 3))),
    "of size 1": np.zeros((1, 1)),
    "5-d": np.zeros((2, 1, 3, 1, 2)),
}


@pytest.mark.parametrize("array", ARRAYS)
def test_fields_of_a_view_are_those_of_numpys(array):
    array = ARRAYS[array]
    tensor = dl.from_numpy(array)
    for request in REQUESTS:
        ours, numpys = fields(tensor, request), fields(array, request)
        if array.size == 0 and numpys is not None:  # the strides of an empty array have no meaning
            ours, numpys = ours[:-1], numpys[:-1]
        assert ours == numpys, hex(request)


def test_views_of_0_dimensions_have_no_shape():
    tensor = dl.tensor(np.array(5, "i4"))
    for request in REQUESTS:
        view = View()
        get_buffer(tensor, view, request)
        assert (view.ndim, bool(view.shape), bool(view.strides)) == (0, False, False)
        release_buffer(view)
    assert memoryview(tensor)[()] == 5 and memoryview(memoryview(tensor)).tolist() == 5


# -- bytes
# ----------------------------------------------------------------------------------------------------

TYPES = [*"?bBhHiIqQefdFD", *sorted(ml_dtypes.__dict__.keys() & {"bfloat16", "float8_e4m3", "float8_e3m4", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn", "int4", "uint4", "int2", "uint2"})]  # fmt: skip


def of_type(name):
    values = np.arange(6).reshape(2, 3) % 2
    return values.astype(np.dtype(getattr(ml_dtypes, name) if len(name) > 1 else name))


@pytest.mark.parametrize("dtype", TYPES)
def test_bytes_are_given_of_every_type(dtype):
    source = of_type(dtype)
    views = source, source.T, source[:, ::-1], source[:, :1], source[:0], source[1, 2, ...]
    for view in map(np.asarray, views):
        tensor = dl.from_numpy(view)
        assert bytes(tensor) == view.tobytes()
        if view.flags.c_contiguous:
            sink = io.BytesIO()
            sink.write(tensor)
            assert sink.getvalue() == b"".join([tensor]) == view.tobytes()
        if len(dtype) > 1:
            for take in (memoryview, bytearray):
                with pytest.raises(BufferError, match=r"type \w+: bytes\(tensor\)"):
                    take(tensor)
        elif view.ndim:
            assert bytearray(tensor) == view.tobytes()


def test_bytes_of_packed_elements():
    if not hasattr(torch, "float4_e2m1fn_x2"):
        pytest.skip("this PyTorch has no type of packed elements")
    bits = torch.arange(6, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    assert bytes(dl.from_dlpack(bits)) == bytes(range(6))
    producer = HostileProducer(dtype=(0, 4, 1), shape=(5,))
    tensor = producer.imported()
    assert len(bytes(tensor)) == len(b"".join([tensor])) == 3
    with pytest.raises(BufferError, match="int4"):
        memoryview(tensor)


# -- __array_interface__
# --------------------------------------------------------------------------------------


class Only:
    """An object that has only the tensor's `__array_interface__`."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.__array_interface__ = tensor.__array_interface__


@pytest.mark.parametrize("dtype", [name for name in TYPES if len(name) == 1])
@pytest.mark.parametrize("read", [False, True])
def test_array_interface_describes_the_memory(dtype, read):
    source = of_type(dtype)
    views = source, source.T, source[::-1, ::2], source[:, :1], source[1, 2, ...]
    for view in map(np.asarray, views):
        view.flags.writeable = not read
        tensor = dl.from_numpy(view)
        again = np.asarray(Only(tensor))
        assert again.ctypes.data == view.ctypes.data == tensor.data_ptr()
        assert (again.dtype, again.shape, again.flags.writeable) == (
            view.dtype,
            view.shape,
            not read,
        )
        assert again.tolist() == view.tolist()
        if 1 not in view.shape:
            assert again.strides == view.strides
        expected = view.__array_interface__
        assert all(
            expected[key] == given
            for key, given in tensor.__array_interface__.items()
            if key != "strides"
        )


def test_array_interface_of_nothing():
    for shape in ((0,), (3, 0), (0, 3)):
        for tensor in (dl.tensor(np.zeros(shape)), dl.from_dlpack(torch.zeros(shape))):
            assert np.asarray(Only(tensor)).shape == shape


def test_array_interface_keeps_the_memory():
    held = np.asarray(Only(dl.tensor(np.arange(1000.0))))
    trash = [np.full(1000, -1.0) for _ in range(100)]
    assert held.tolist() == list(range(1000)) and len(trash) == 100


def test_array_interface_is_missing_where_numpy_has_no_name():
    for name in TYPES:
        tensor = dl.from_numpy(of_type(name))
        assert hasattr(tensor, "__array_interface__") == (len(name) == 1)
        assert np.asarray(tensor).dtype == of_type(name).dtype
    with pytest.raises(AttributeError, match="bfloat16"):
        _ = dl.from_numpy(of_type("bfloat16")).__array_interface__


# -- __array__
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", [None, True, False])
@pytest.mark.parametrize("dtype", [None, "f8", ">f8", "f4", "i8", "S8", "c16", object])
@pytest.mark.parametrize("layout", ["row-major", "column-major", "reversed", "read-only", "0-d"])
def test_dunder_array_means_what_it_means_in_numpy(copy, dtype, layout):
    source = {
        "row-major": np.arange(6.0).reshape(2, 3),
        "column-major": np.arange(6.0).reshape(2, 3).T,
        "reversed": np.arange(6.0)[::-1],
        "read-only": read_only(np.arange(6.0)),
        "0-d": np.array(5.0),
    }[layout]
    tensor = dl.from_numpy(source)

    def outcome(call, strides=True):
        try:
            got = call()
        except ValueError as error:
            return type(error), str(error)
        shares = np.shares_memory(got, source)
        steps = got.strides if strides else None
        return got.dtype, got.shape, steps, got.flags.writeable, shares, got.tolist()

    dtype = dtype and np.dtype(dtype)
    # NumPy's `__array__` makes a row-major copy; that of dlbridge is laid out as `numpy.array` does.
    wanted = outcome(lambda: source.__array__(dtype, copy=copy), strides=False)
    assert outcome(lambda: tensor.__array__(dtype, copy=copy), strides=False) == wanted
    assert outcome(lambda: tensor.__array__(dtype=dtype, copy=copy), strides=False) == wanted
    wanted = outcome(lambda: np.array(source, dtype, copy=copy))
    assert outcome(lambda: np.array(tensor, dtype, copy=copy)) == wanted


# -- iteration
# ------------------------------------------------------------------------------------------------


def test_iteration_gives_what_tolist_gives():
    for source in (
        np.arange(3),
        np.arange(6.0).reshape(2, 3).T,
        np.zeros((2, 0)),
        np.zeros((0, 2)),
    ):
        tensor = dl.from_numpy(source)
        assert list(tensor) == tensor.tolist() == source.tolist() and len(tensor) == len(source)
    for call in (len, iter, list):
        with pytest.raises(TypeError, match="0 dimensions"):
            call(dl.tensor(np.array(5)))
    with pytest.raises(TypeError, match="float8_e5m2"):
        iter(dl.from_numpy(of_type("float8_e5m2")))
    assert 2 in dl.tensor(np.arange(3)) and 3 not in dl.tensor(np.arange(3))
    with pytest.raises(TypeError):
        _ = dl.tensor(np.arange(3))[0]
    assert sum(itertools.islice(dl.tensor(np.arange(5)), 3)) == 3
