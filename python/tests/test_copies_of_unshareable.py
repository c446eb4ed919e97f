"""Elements that DLPack cannot describe: functions that share refuse them, and functions that copy read them."""

import sys

import array_api_strict
import ml_dtypes
import numpy as np
import pytest
import torch

import dlbridge as dl

SWAPPED = ">" if sys.byteorder == "little" else "<"


def packed(dtype, shape=()):
    """A field of packed records, whose strides are no multiple of the element's size."""
    records = np.zeros(5, dtype=[("tag", "u1"), ("value", dtype, shape)])
    records["value"] = np.arange(records["value"].size).reshape(records["value"].shape)
    return records["value"]


UNSHAREABLE = {
    "packed field": lambda: packed("f4"),
    "packed rows": lambda: packed("f8", (3,)),
    "packed rows, transposed": lambda: packed("f8", (3,)).T,
    "packed rows, reversed": lambda: packed("i8", (3,))[::-1, ::-1],
    "packed complex": lambda: packed("c16"),
    "swapped integers": lambda: np.arange(6, dtype=SWAPPED + "i4").reshape(2, 3),
    "swapped, transposed": lambda: np.arange(6, dtype=SWAPPED + "f8").reshape(2, 3).T,
    "swapped and packed": lambda: packed(SWAPPED + "f4"),
    "swapped, one": lambda: np.array(2.5, SWAPPED + "f4"),
    "swapped, none": lambda: np.zeros((0, 3), SWAPPED + "f4"),
    "swapped, read-only": lambda: np.broadcast_to(np.arange(3, dtype=SWAPPED + "u2"), (2, 3)),
    "swapped, of a class": lambda: np.arange(3, dtype=SWAPPED + "f4").view(np.recarray),
    "swapped, unmasked": lambda: np.ma.masked_array(np.arange(3, dtype=SWAPPED + "f4")),
}


@pytest.mark.parametrize("kind", UNSHAREABLE)
def test_sharing_is_refused_with_a_function_that_copies(kind):
    array = UNSHAREABLE[kind]()
    remedy = r"use array\..*dlbridge\.tensor\(array\), which copies"
    # An array of a derived class is exported by NumPy's own `__dlpack__`.
    with pytest.raises(BufferError, match=remedy if type(array) is np.ndarray else "byte order"):
        dl.from_dlpack(array)
    with pytest.raises(ValueError, match=r"dlbridge\.tensor\(array\), which copies"):
        dl.from_numpy(array)
    with pytest.raises((BufferError, ValueError)):
        dl.copyto(array, np.zeros(array.shape, array.dtype.newbyteorder("=")))


@pytest.mark.parametrize("kind", UNSHAREABLE)
def test_functions_that_copy_read_the_elements(kind):
    array = UNSHAREABLE[kind]()
    native = array.dtype.newbyteorder("=")
    tensor, clone, rows = dl.tensor(array), dl.clone(array), dl.contiguous(array)
    assert tensor.dtype == native.name and not tensor.readonly
    assert tensor.data_ptr() % 256 == 0 or not tensor.numel()
    for copied in (tensor.numpy(), clone, rows):
        assert type(copied) is np.ndarray and copied.dtype == native and copied.dtype.isnative
        assert copied.tolist() == array.tolist() and copied.shape == array.shape
        assert copied.flags.writeable and not np.may_share_memory(copied, array)
    assert rows.flags.c_contiguous
    target = torch.full(array.shape, 99).numpy().astype(native)
    dl.copyto(target, array)
    assert target.tolist() == array.tolist()


def test_the_order_of_strides_is_kept():
    array = UNSHAREABLE["swapped, transposed"]()
    assert dl.tensor(array).stride() == (1, 3) and dl.clone(array).strides == (8, 24)
    assert dl.contiguous(array).strides == (16, 8)


def test_copies_go_to_other_libraries():
    target = torch.zeros(5)
    dl.copyto(target, packed("f4"))
    assert target.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("dtype", ["u2", "f4", "i8"])
def test_buffers_and_interfaces_are_read_like_arrays(dtype):
    class Shown:
        def __init__(self, array):
            self.array = array

        @property
        def __array_interface__(self):
            return self.array.__array_interface__

    for array in (np.arange(6, dtype=SWAPPED + dtype), packed(dtype)):
        for shown in (memoryview(array), Shown(array)):
            with pytest.raises(BufferError):
                dl.from_dlpack(shown)
            assert dl.tensor(shown).tolist() == array.tolist()
            clone = dl.clone(shown)
            assert clone.tolist() == array.tolist()
            assert isinstance(clone, memoryview) == isinstance(shown, memoryview)


def test_misaligned_elements_are_shared_and_copied():
    odd = np.zeros(41, np.uint8)[1:].view(np.float64)
    odd[:] = range(5)
    shared = dl.from_numpy(odd)
    assert shared.data_ptr() == odd.ctypes.data and not shared.numpy().flags.aligned
    for copied in (dl.tensor(odd).numpy(), dl.clone(odd), dl.tensor(shared).numpy()):
        assert copied.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0] and copied.flags.aligned


def test_masks_are_refused_by_every_function():
    masked = np.ma.masked_array(np.arange(3, dtype=SWAPPED + "f4"), mask=[0, 1, 0])
    for function in (dl.tensor, dl.clone, dl.contiguous, dl.from_dlpack):
        with pytest.raises(BufferError, match="does not support masks"):
            function(masked)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, "M8[s]"),
        np.zeros(3, SWAPPED + "M8[s]"),
        np.zeros(3, [("a", SWAPPED + "i4")]),
        np.zeros(3, SWAPPED + "U3"),
        np.zeros(3, object),
    ],
    ids=lambda array: str(array.dtype),
)
def test_types_that_dlpack_does_not_have_are_refused_by_every_function(array):
    for function in (dl.tensor, dl.clone, dl.contiguous, dl.from_dlpack):
        with pytest.raises(BufferError, match="DLPack has no type"):
            function(array)


NUMBERS = [np.float32(2.5), np.int64(-3), np.bool_(True), np.complex128(1 + 2j), np.uint8(7)]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: type(number).__name__)
def test_numbers_of_numpy_are_copied(number):
    for copied in (dl.from_dlpack(number), dl.tensor(number)):
        assert copied.shape == () and copied.item() == number.item()
        assert copied.dtype == number.dtype.name
    assert dl.from_dlpack(number, copy=True).item() == number.item()
    target = np.zeros((), number.dtype)
    dl.copyto(target, number)
    assert target[()] == number
    with pytest.raises(ValueError, match="leave copy out"):
        dl.from_dlpack(number, copy=False)
    assert np.asarray(dl.clone(number)).tolist() == number.item()
    assert np.asarray(dl.contiguous(number)).tolist() == number.item()


def test_packed_elements_of_ml_dtypes():
    array = packed(ml_dtypes.bfloat16)
    assert dl.tensor(array).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert dl.clone(array).dtype == ml_dtypes.bfloat16


def test_arrays_of_other_libraries_keep_their_errors():
    array = array_api_strict.asarray(np.arange(3))
    assert dl.tensor(array).tolist() == [0, 1, 2]
    with pytest.raises(BufferError, match="resolve_neg"):
        dl.tensor(torch._neg_view(torch.ones(2)))


def test_an_array_whose_buffer_is_gone_is_not_copied():
    """Refuses arrays over released buffers, which NumPy itself would read."""
    memory = bytearray(1 << 22)
    buffer = memoryview(memory)
    array = np.ndarray(1 << 19, np.float64, buffer=buffer)
    buffer.release()
    packed = np.dtype({"names": ["a"], "formats": ["f4"], "offsets": [1], "itemsize": 8})
    unshareable = [array.view(">f8"), array.view(packed)["a"], array.view(">f8")[::-2]]
    for wanted in unshareable:
        dl.tensor(wanted)
    memory.clear()
    for gone in unshareable:
        for copy in (dl.tensor, dl.clone, dl.contiguous):
            with pytest.raises(BufferError, match="memory is gone: the bytearray"):
                copy(gone)
        with pytest.raises(BufferError, match="memory is gone: the bytearray"):
            dl.copyto(np.zeros(gone.shape, gone.dtype.newbyteorder("=")), gone)
