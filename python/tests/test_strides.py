"""Strides without meaning: those of dimensions of size 1, and all strides of a tensor without elements."""

import ctypes as C

import numpy as np
import pytest
import torch
import tvm_ffi

import dlbridge as dl

EMPTY = {
    "NumPy's": np.zeros((1, 8, 0, 4), np.float32),
    "rows": np.zeros((0, 3)),
    "columns": np.zeros((3, 0)),
    "negative": np.lib.stride_tricks.as_strided(np.zeros(4), (5, 0), (-8, 8)),
    "sliced and reversed": np.zeros((2, 3))[:0, ::-1],
    "broadcast": np.lib.stride_tricks.as_strided(np.zeros(4), (5, 0, 2), (0, 0, 0)),
    "huge": np.lib.stride_tricks.as_strided(np.zeros(4), (5, 0), (1 << 62, -(1 << 62))),
    "torch's": torch.empty(2, 0),
    "torch's expanded": torch.empty(1, 0).expand(5, 0),
    "torch's transposed": torch.empty(0, 4).t(),
}


@pytest.mark.parametrize("source", EMPTY)
def test_empty_tensors_are_refused_and_copied_by_nothing(source):
    source = EMPTY[source]
    shape = tuple(source.shape)
    for tensor in (dl.from_dlpack(source), dl.tensor(source), dl.from_dlpack(source).clone()):
        assert not tensor.readonly and min(tensor.stride()) > 0
        for capsule in (
            tensor.__dlpack__(),
            tensor.__dlpack__(copy=False),
            tensor.__dlpack__(max_version=(1, 0)),
            tensor.__dlpack__(max_version=(1, 0), copy=False),
        ):
            back = dl.from_dlpack(capsule)
            assert back.shape == shape and min(back.stride()) > 0
        assert not dl.from_dlpack(tensor.__dlpack__(max_version=(1, 0))).readonly
        assert tensor.torch().shape == torch.from_dlpack(tensor).shape == shape
        assert torch.from_numpy(tensor.numpy()).shape == np.from_dlpack(tensor).shape == shape
        assert memoryview(tensor).shape == shape and bytes(tensor) == b""
        assert tvm_ffi.from_dlpack(tensor).shape == shape
        assert np.asarray(tensor.__array__()).shape == shape
        assert tensor.tolist() == np.zeros(shape).tolist()


SINGLE = {
    "reversed": lambda: np.arange(200.0).reshape(1, 10, 20)[::-1],
    "reversed column": lambda: np.arange(3.0).reshape(3, 1)[:, ::-1],
    "all of size 1": lambda: np.zeros((1, 1))[::-1, ::-1],
    "broadcast": lambda: np.lib.stride_tricks.as_strided(np.arange(3.0), (1, 3), (0, 8)),
    "wild": lambda: torch.arange(6.0).as_strided((3, 1, 2), (2, 2**31 - 1, 1)),
    "uneven": lambda: np.lib.stride_tricks.as_strided(np.arange(3.0), (1, 3), (5, 8)),
}


@pytest.mark.parametrize("source", SINGLE)
def test_strides_of_size_1_are_refused_and_copied_by_nothing(source):
    source = SINGLE[source]()
    shape, values = tuple(source.shape), source.tolist()
    start = source.data_ptr() if isinstance(source, torch.Tensor) else source.ctypes.data
    tensor = dl.from_dlpack(source)
    assert tensor.is_contiguous() and tensor.data_ptr() == start and not tensor.readonly
    span = max(1, tensor.numel())
    assert all(0 < stride <= span for stride in tensor.stride())
    shared = [
        tensor.torch(),
        torch.from_dlpack(tensor),
        torch.from_numpy(tensor.numpy()),
        torch.from_numpy(tensor.contiguous().numpy()),
        torch.from_numpy(np.asarray(tensor)),
        dl.from_dlpack(tensor.__dlpack__(copy=False)),
        dl.from_dlpack(tensor.__dlpack__(max_version=(1, 0), copy=False)),
    ]
    for other in shared:
        assert (other.data_ptr(), tuple(other.shape), other.tolist()) == (start, shape, values)
    if isinstance(source, np.ndarray):
        assert torch.from_numpy(dl.contiguous(source)).data_ptr() == start
        assert torch.from_numpy(dl.clone(source)).tolist() == values


def test_exchange_table_describes_harmless_strides():
    class DLTensor(C.Structure):
        _fields_ = [
            ("data", C.c_void_p),
            ("device", C.c_int32 * 2),
            ("ndim", C.c_int32),
            ("dtype", C.c_uint32),
            ("shape", C.POINTER(C.c_int64)),
            ("strides", C.POINTER(C.c_int64)),
            ("byte_offset", C.c_uint64),
        ]

    get = C.PYFUNCTYPE(C.c_void_p, C.py_object, C.c_char_p)(("PyCapsule_GetPointer", C.pythonapi))
    table = get(dl.Tensor.__dlpack_c_exchange_api__, b"dlpack_exchange_api")
    borrow = C.c_void_p.from_address(table + 16 + 3 * C.sizeof(C.c_void_p)).value
    borrow = C.PYFUNCTYPE(C.c_int, C.py_object, C.POINTER(DLTensor))(borrow)
    for source in (*EMPTY.values(), *(make() for make in SINGLE.values())):
        tensor, described = dl.from_dlpack(source), DLTensor()
        assert borrow(tensor, described) == 0
        assert described.strides[: described.ndim] == list(tensor.stride())
        assert all(stride > 0 for stride in described.strides[: described.ndim])


def test_consumers_of_the_older_struct_take_empty_tensors():
    ort = pytest.importorskip("onnxruntime")
    jnp = pytest.importorskip("jax.numpy")
    for source in EMPTY.values():
        tensor = dl.from_dlpack(source)
        assert tuple(ort.OrtValue.from_dlpack(tensor).shape()) == tensor.shape
        assert jnp.from_dlpack(tensor).shape == tensor.shape
