"""Import and export without `__dlpack__`: buffers, array interfaces and the exchange table."""

import array
import ctypes as C
import hashlib
import io
import mmap
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import tvm_ffi

import dlbridge as dl
from producer import DLTensor, Versioned

# -- buffers
# ---------------------------------------------------------------------------------------------------

BUFFERS = {
    "bytes": (b"abc", "uint8", True, [97, 98, 99]),
    "bytearray": (bytearray(b"abc"), "uint8", False, [97, 98, 99]),
    "array of int": (array.array("i", [1, -2]), "int32", False, [1, -2]),
    "array of double": (array.array("d", [0.5]), "float64", False, [0.5]),
    "array of long": (array.array("l", [1 << 40]), "int64", False, [1 << 40]),
    "cast to 2-D": (
        memoryview(bytes(range(6))).cast("B", [2, 3]),
        "uint8",
        True,
        [[0, 1, 2], [3, 4, 5]],
    ),
    "bools": (memoryview(b"\x01\x00").cast("?"), "bool", True, [True, False]),
    "reversed": (memoryview(b"abc")[::-1], "uint8", True, [99, 98, 97]),
    "every other": (memoryview(b"abcd")[::2], "uint8", True, [97, 99]),
    "a NumPy view": (
        memoryview(np.arange(6, dtype="c8").reshape(2, 3).T),
        "complex64",
        False,
        [[0, 3], [1, 4], [2, 5]],
    ),
    "a ctypes array": ((C.c_float * 2)(1, 2), "float32", False, [1.0, 2.0]),
    "nothing": (b"", "uint8", True, []),
}


@pytest.mark.parametrize("case", BUFFERS)
def test_buffer_protocol_imports(case):
    exporter, dtype, readonly, values = BUFFERS[case]
    tensor = dl.from_dlpack(exporter)
    assert (tensor.dtype, tensor.readonly, tensor.tolist()) == (dtype, readonly, values)
    assert tensor.numel() == 0 or tensor.data_ptr() == np.asarray(memoryview(exporter)).ctypes.data


def test_buffers_stay_exported_while_the_tensor_lives():
    exporter = bytearray(b"abc")
    tensor = dl.from_dlpack(exporter)
    view = torch.from_dlpack(tensor)
    del tensor
    with pytest.raises(BufferError):
        exporter.append(1)
    del view
    exporter.append(1)
    with mmap.mmap(-1, 4096) as mapped:
        tensor = dl.from_dlpack(mapped)
        assert tensor.nbytes == 4096
        with pytest.raises(BufferError):
            mapped.close()
        del tensor


@pytest.mark.parametrize(
    "exporter",
    [
        array.array("u", "ab"),
        memoryview(np.ones(2, ">f4")),
        memoryview(np.zeros(2, "i4,f4")),
        memoryview(np.zeros(3, "u1,f4"))[:0],
        (C.c_void_p * 2)(),
    ],
    ids=["letters", "byte order", "records", "no records", "pointers"],
)
def test_buffers_of_no_dlpack_type_are_refused(exporter):
    with pytest.raises(BufferError):
        dl.from_dlpack(exporter)


@pytest.mark.parametrize("dtype", ["?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d"])
def test_buffer_protocol_exports_in_every_format(dtype):
    source = np.arange(6).reshape(2, 3).astype(dtype)
    for view in (source, source.T, source[:, ::-1], source[:, 1:2], source[:0]):
        tensor = dl.from_numpy(view)
        exported = memoryview(tensor)
        known = memoryview(view)
        assert (
            exported.shape,
            exported.strides,
            exported.itemsize,
            exported.nbytes,
            exported.readonly,
            exported.c_contiguous,
            exported.f_contiguous,
        ) == (
            known.shape,
            known.strides,
            known.itemsize,
            known.nbytes,
            known.readonly,
            known.c_contiguous,
            known.f_contiguous,
        )
        assert np.asarray(exported).tolist() == view.tolist() == tensor.tolist()
        assert bytes(tensor) == known.tobytes()


def test_bytes_apis_accept_tensors():
    tensor = dl.tensor(np.arange(4, dtype=np.uint8))
    assert hashlib.sha256(tensor).digest() == hashlib.sha256(bytes([0, 1, 2, 3])).digest()
    assert io.BytesIO(b"wxyz").readinto(tensor) == 4 and tensor.tolist() == list(b"wxyz")
    with pytest.raises((BufferError, TypeError)):
        io.BytesIO(b"wxyz").readinto(dl.from_dlpack(b"abcd"))
    with pytest.raises((BufferError, ValueError, TypeError)):
        hashlib.sha256(dl.from_numpy(np.arange(6)[::2]))
    bits = dl.from_dlpack(torch.ones(2, dtype=torch.bfloat16))
    with pytest.raises(BufferError, match="bfloat16"):
        memoryview(bits)
    assert (
        hashlib.sha256(bits).digest() == hashlib.sha256(b"\x80\x3f\x80\x3f").digest()
    )  # bytes have no format


# -- array interfaces
# ------------------------------------------------------------------------------------------


class Described:
    def __init__(self, interface, cuda=False):
        setattr(self, "__cuda_array_interface__" if cuda else "__array_interface__", interface)


def interface_of(source, **changes):
    return {**source.__array_interface__, "version": 3, **changes}


def test_array_interface_imports():
    source = np.arange(12, dtype=np.float32).reshape(3, 4)
    for view in (source, source.T, source[::-1, ::2], source[:0], source[0, 0, ...]):
        described = Described(interface_of(np.asarray(view)))
        tensor = dl.from_dlpack(described)
        assert tensor.tolist() == view.tolist() and not tensor.readonly
        before = sys.getrefcount(described)
        del tensor
        assert sys.getrefcount(described) == before - 1
    for data in (source.tobytes(), memoryview(source)):  # as images of Pillow have it
        tensor = dl.from_dlpack(Described(interface_of(source, data=data)))
        assert tensor.tolist() == source.tolist() and tensor.readonly == isinstance(data, bytes)
    tail = dl.from_dlpack(
        Described(interface_of(source, data=source.tobytes(), shape=(2,), offset=40))
    )
    assert tail.tolist() == [10.0, 11.0]
    constant = Described(interface_of(source, data=(source.ctypes.data, True)))
    assert dl.from_dlpack(constant).readonly


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"typestr": ">f4"}, BufferError),
        ({"typestr": "|O8"}, BufferError),
        ({"typestr": "<f16"}, BufferError),
        ({"typestr": "f"}, BufferError),
        ({"typestr": "<f-4"}, BufferError),
        ({"typestr": 4}, TypeError),
        ({"strides": (3, 1)}, BufferError),
        ({"strides": (4,)}, BufferError),
        ({"strides": (16, 4, 4)}, BufferError),
        ({"shape": (-1, 4)}, BufferError),
        ({"shape": (1 << 62, 4)}, BufferError),
        ({"shape": "ab"}, TypeError),
        ({"data": (0, False)}, BufferError),
        ({"data": None}, TypeError),
        ({"data": b"abcd"}, ValueError),
        ({"data": bytes(48), "offset": 1}, ValueError),
        ({"data": bytes(48), "offset": 1 << 63}, ValueError),
        ({"data": (-1, False)}, OverflowError),
        ({"mask": np.ones((3, 4), bool)}, BufferError),
    ],
)
def test_invalid_array_interfaces_are_refused(changes, error):
    source = np.arange(12, dtype=np.float32).reshape(3, 4)
    with pytest.raises(error):
        dl.from_dlpack(Described(interface_of(source, **changes)))


# -- __dlpack__ and __array__
# ----------------------------------------------------------------------------------


def test_masked_arrays_are_refused():
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    for take in (dl.from_dlpack, dl.from_numpy, dl.tensor, dl.clone):
        with pytest.raises(BufferError, match="mask"):
            take(masked)
    assert dl.from_dlpack(np.ma.array([1.0, 2.0])).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("version", [(1,), [1, 0], (1, 0, 0), 1, "1", (1.0, 0), ("1", "0")])
def test_max_version_must_be_a_pair_of_integers(version):
    with pytest.raises(TypeError, match="max_version"):
        dl.tensor(np.ones(2)).__dlpack__(max_version=version)


@pytest.mark.parametrize(
    ("version", "name"),
    [
        (None, "dltensor"),
        ((0, 8), "dltensor"),
        ((-1, 0), "dltensor"),
        ((-(1 << 99), 0), "dltensor"),
        ((1, 0), "dltensor_versioned"),
        ((2, 0), "dltensor_versioned"),
        ((1 << 99, 0), "dltensor_versioned"),
    ],
)
def test_max_version_selects_the_struct(version, name):
    assert f'"{name}"' in repr(dl.tensor(np.ones(2)).__dlpack__(max_version=version))


def test_arguments_of_dlpack_are_checked():
    tensor = dl.tensor(np.ones(2))
    for options in (
        {"stream": -1},
        {"dl_device": (1, 0)},
        {"copy": np.True_},
        {"dl_device": (1, 5)},
        {"dl_device": (3, 0)},
    ):
        tensor.__dlpack__(max_version=(1, 0), **options)
    for options, error in [
        ({"stream": 1}, ValueError),
        ({"stream": 0}, ValueError),
        ({"stream": "x"}, TypeError),
        ({"dl_device": (2, 0)}, BufferError),
        ({"dl_device": (99, 0)}, BufferError),
        ({"dl_device": [1, 0]}, TypeError),
        ({"dl_device": "cpu"}, TypeError),
        ({"copy": 1}, TypeError),
        ({"copy": "x"}, TypeError),
        ({"colour": 1}, TypeError),
    ]:
        with pytest.raises(error):
            tensor.__dlpack__(**options)
    with pytest.raises(TypeError, match="keyword"):
        tensor.__dlpack__(None)


def test_streams_may_be_objects():
    class Stream:
        def __cuda_stream__(self):
            return (0, 17)

    with pytest.raises(ValueError, match="17 is not a stream of cpu"):
        dl.tensor(np.ones(2)).__dlpack__(stream=Stream())


def test_dunder_array_follows_numpys_protocol():
    tensor = dl.tensor(np.arange(3))
    assert np.asarray(tensor).ctypes.data == tensor.data_ptr()
    assert np.array(tensor).ctypes.data != tensor.data_ptr()
    assert tensor.__array__().ctypes.data == tensor.data_ptr()
    assert tensor.__array__(np.float32).dtype == np.float32
    assert tensor.__array__(copy=True).ctypes.data != tensor.data_ptr()
    with pytest.raises(ValueError):
        tensor.__array__(np.float32, copy=False)
    bits = dl.from_dlpack(torch.ones(2, dtype=torch.bfloat16))
    assert (
        np.asarray(bits).dtype.name == "bfloat16"
        and np.asarray(bits).ctypes.data == bits.data_ptr()
    )


# -- the exchange table
# ----------------------------------------------------------------------------------------


def test_tvm_ffi_uses_the_exchange_table_and_returns_dlbridge_tensors():
    echo = tvm_ffi.get_global_func("testing.echo")
    tensor = dl.tensor(np.arange(6.0).reshape(2, 3))
    back = echo(tensor)
    assert type(back) is dl.Tensor and back.data_ptr() == tensor.data_ptr()
    assert back.tolist() == tensor.tolist() and back.stride() == tensor.stride()
    constant = dl.from_dlpack(jnp.arange(3.0))
    assert echo(constant).data_ptr() == constant.data_ptr()
    # A kernel that gets a reversed tensor must not write to a copy.
    with pytest.raises(BufferError, match="negative"):
        echo(dl.from_numpy(np.arange(3.0)[::-1]))


class Header(C.Structure):
    _fields_ = [("version", C.c_uint32 * 2), ("previous", C.c_void_p)]


class Table(C.Structure):
    _fields_ = [
        ("header", Header),
        ("allocate", C.c_void_p),
        ("managed_from", C.c_void_p),
        ("to", C.c_void_p),
        ("borrowed_from", C.c_void_p),
        ("stream", C.c_void_p),
    ]


def the_table():
    get = C.PYFUNCTYPE(C.c_void_p, C.py_object, C.c_char_p)(("PyCapsule_GetPointer", C.pythonapi))
    return Table.from_address(get(dl.Tensor.__dlpack_c_exchange_api__, b"dlpack_exchange_api"))


def test_exchange_table_is_complete_and_refuses_other_objects():
    table = the_table()
    assert tuple(table.header.version) == (1, 3) and not table.header.previous
    borrow = C.PYFUNCTYPE(C.c_int, C.py_object, C.POINTER(DLTensor))(table.borrowed_from)
    managed = C.PYFUNCTYPE(C.c_int, C.py_object, C.POINTER(C.c_void_p))(table.managed_from)
    described, out = DLTensor(), C.c_void_p()
    tensor = dl.tensor(np.arange(6, dtype=np.int16).reshape(2, 3))
    assert borrow(tensor, described) == 0
    assert (described.data, described.ndim, described.code, described.bits) == (
        tensor.data_ptr(),
        2,
        0,
        16,
    )
    for wrong in (np.ones(3), torch.ones(3), None, [1]):
        for function, target in ((borrow, described), (managed, out)):
            with pytest.raises(TypeError):
                function(wrong, target)
    for readonly in (dl.from_dlpack(b"abc"), dl.from_numpy(np.broadcast_to(1.0, (3,)))):
        with pytest.raises(BufferError, match="read-only"):
            borrow(readonly, described)
        assert managed(readonly, out) == 0
        assert Versioned.from_address(out.value).flags & 1  # READ_ONLY
        C.CFUNCTYPE(None, C.c_void_p)(Versioned.from_address(out.value).deleter)(out.value)
    stream = C.c_void_p(1)
    assert (
        C.CFUNCTYPE(C.c_int, C.c_int, C.c_int32, C.POINTER(C.c_void_p))(table.stream)(1, 0, stream)
        == 0
    )
    assert stream.value is None


def test_exchange_table_allocator_needs_no_gil():
    table, errors = the_table(), []
    report = C.CFUNCTYPE(None, C.c_void_p, C.c_char_p, C.c_char_p)(
        lambda _, kind, message: errors.append((kind.decode(), message.decode()))
    )
    allocate = C.CFUNCTYPE(
        C.c_int, C.POINTER(DLTensor), C.POINTER(C.c_void_p), C.c_void_p, C.c_void_p
    )(table.allocate)
    shape, huge, out = (C.c_int64 * 2)(2, 3), (C.c_int64 * 2)(1 << 40, 1 << 20), C.c_void_p()
    wanted = DLTensor(ndim=2, code=2, bits=32, lanes=1, sizes=C.addressof(shape), device=(1, 0))
    assert allocate(wanted, out, None, C.cast(report, C.c_void_p)) == 0
    made = Versioned.from_address(out.value).tensor
    assert made.data % 256 == 0 and (C.c_int64 * 2).from_address(made.steps)[:] == [3, 1]
    to_object = C.PYFUNCTYPE(C.c_int, C.c_void_p, C.POINTER(C.py_object))(table.to)
    object_ = C.py_object()
    assert to_object(out.value, object_) == 0
    assert type(object_.value) is dl.Tensor and object_.value.tolist() == [[0.0] * 3] * 2
    for changes, kind in (
        ({"code": 99}, "BufferError"),
        ({"device": (2, 0)}, "BufferError"),
        ({"ndim": -1}, "BufferError"),
        ({"sizes": C.addressof(huge)}, "MemoryError"),
    ):
        wrong = DLTensor(
            **{
                "ndim": 2,
                "code": 2,
                "bits": 32,
                "lanes": 1,
                "sizes": C.addressof(shape),
                "device": (1, 0),
                **changes,
            }
        )
        assert allocate(wrong, out, None, C.cast(report, C.c_void_p)) == -1
        got, message = errors.pop()
        assert got == kind and message


def test_deleters_run_where_pytorch_released_the_gil():
    """PyTorch detaches from the interpreter while it frees a tensor, also during a call of dlbridge."""

    class Frees:
        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, **options):
            shared = torch.from_dlpack(dl.from_numpy(np.ones(3)))
            del shared
            return np.zeros(2).__dlpack__(**options)

    for _ in range(100):
        assert dl.from_dlpack(Frees()).tolist() == [0.0, 0.0]


def test_importing_dlbridge_imports_no_other_library():
    code = "import sys, dlbridge; print(sorted({'numpy', 'torch', 'jax'} & sys.modules.keys()))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert run.stdout.strip() == "[]"
