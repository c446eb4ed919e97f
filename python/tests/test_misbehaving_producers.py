"""Producers whose interfaces are wrong, change while they are read, or call dlbridge: no import crashes."""

import ctypes
import subprocess
import sys
import threading

import numpy as np
import pytest

import dlbridge as dl

VERSIONED = {"max_version": (1, 0)}


class Shown:
    """An object with the given `__array_interface__`."""

    def __init__(self, **interface):
        self.memory = np.arange(8, dtype=np.float32)
        self.interface = {
            "version": 3,
            "shape": (8,),
            "typestr": self.memory.dtype.str,
            "data": (self.memory.ctypes.data, False),
        } | interface

    @property
    def __array_interface__(self):
        return {key: value for key, value in self.interface.items() if value is not ...}


BUFFER = bytes(range(32))

BAD_INTERFACES = {
    "negative size": {"shape": (-1,)},
    "negative size of several": {"shape": (2, -3)},
    "too large a shape": {"shape": (2**62, 8)},
    "huge strides": {"strides": (2**62,)},
    "hugely negative strides": {"strides": (-(2**63),)},
    "strides of another rank": {"strides": (4, 4)},
    "uneven strides": {"strides": (3,)},
    "strides of strings": {"strides": ("4",)},
    "no address": {"data": (0, False)},
    "address beyond memory": {"data": (2**64, False)},
    "negative address": {"data": (-4, False)},
    "end of the address space": {"data": (2**64 - 4, False)},
    "address of a string": {"data": ("1", False)},
    "flag left out": {"data": (4096,)},
    "no shape": {"shape": ...},
    "shape of None": {"shape": None},
    "no type": {"typestr": ...},
    "type of a number": {"typestr": 4},
    "swapped": {"typestr": ">f4" if sys.byteorder == "little" else "<f4"},
    "unknown order": {"typestr": "xf4"},
    "unknown kind": {"typestr": "<z4"},
    "unknown size": {"typestr": "<f3"},
    "no size": {"typestr": "<f"},
    "signed size": {"typestr": "<f+4"},
    "huge size": {"typestr": "<f99999999999999999999"},
    "objects": {"typestr": "|O8"},
    "records": {"typestr": "|V4", "descr": [("a", "<f4")]},
    "mask": {"mask": np.zeros(8, bool)},
    "buffer too short": {"data": BUFFER, "shape": (9,)},
    "buffer of no buffer": {"data": 7},
    "offset beyond the buffer": {"data": BUFFER, "offset": 4},
    "offset near the end": {"data": BUFFER, "offset": 2**64 - 4},
    "offset of 2**63": {"data": BUFFER, "offset": 2**63},
    "negative offset": {"data": BUFFER, "offset": -4},
    "strides before the buffer": {"data": BUFFER, "strides": (-4,)},
    "strides beyond the buffer": {"data": BUFFER, "strides": (8,)},
}


@pytest.mark.parametrize("kind", BAD_INTERFACES)
def test_wrong_array_interfaces_are_refused(kind):
    shown = Shown(**BAD_INTERFACES[kind])
    for function in (dl.from_dlpack, dl.tensor, dl.clone, dl.contiguous):
        if kind in ("swapped", "uneven strides", "mask") and function is not dl.from_dlpack:
            continue  # NumPy may read it
        with pytest.raises((BufferError, ValueError, TypeError, OverflowError)):
            function(shown)


GOOD_INTERFACES = {
    "as it is": ({}, range(8)),
    "reversed in a buffer": (
        {"data": BUFFER, "typestr": "|u1", "shape": (4,), "strides": (-1,), "offset": 3},
        [3, 2, 1, 0],
    ),
    "part of a buffer": ({"data": BUFFER, "typestr": "|u1", "shape": (2,), "offset": 30}, [30, 31]),
    "no elements at no address": ({"data": (0, False), "shape": (0,)}, []),
    "strides of none": ({"data": (0, False), "shape": (0, 4), "strides": (2**62, 2**62)}, []),
    "strides of one": ({"shape": (1,), "strides": (2**62,)}, [0]),
    "no mask": ({"mask": None}, range(8)),
    "no strides": ({"strides": None}, range(8)),
}


@pytest.mark.parametrize("kind", GOOD_INTERFACES)
def test_odd_array_interfaces_are_shared(kind):
    interface, want = GOOD_INTERFACES[kind]
    assert dl.from_dlpack(Shown(**interface)).tolist() == list(want)


@pytest.mark.parametrize("dtype", ["i1", "i4", "f8"])
@pytest.mark.parametrize("stride", [2**62, -(2**62), -(2**63)])
def test_overflow_messages_have_the_size_of_an_element(dtype, stride):
    memory = np.zeros(16, dtype)
    array = np.lib.stride_tricks.as_strided(memory, (5,), (stride,))
    interface = {"shape": (5,), "strides": (stride,), "typestr": memory.dtype.str}
    for function in (dl.from_numpy, dl.from_dlpack, dl.tensor, dl.clone):
        for object in (array, Shown(**interface)):
            if object is not array and function is dl.from_numpy:
                continue
            with pytest.raises((BufferError, ValueError), match=f"{memory.itemsize}-byte"):
                function(object)
    big = Shown(shape=(2**62, 8), typestr=memory.dtype.str)
    with pytest.raises(
        BufferError, match=f"{memory.itemsize}-byte elements of type {memory.dtype}"
    ):
        dl.from_dlpack(big)


class Py_buffer(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
        ("internal", ctypes.c_void_p),
    ]


LYING_BUFFERS = """
import ctypes, sys, numpy as np, dlbridge as dl
from test_misbehaving_producers import Py_buffer
SSIZES = ctypes.c_ssize_t * 2
GETBUFFER = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.py_object, ctypes.POINTER(Py_buffer), ctypes.c_int)
class Liar: pass
fields, numbers = {FIELDS}, []
memory = ctypes.create_string_buffer(64)
@GETBUFFER
def getbuffer(self, view, flags):
    view = view.contents
    view.buf, view.len, view.itemsize, view.readonly = ctypes.addressof(memory), 64, 8, 0
    view.ndim, view.format, view.internal = 1, b"d", None
    view.obj = self
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
    for name, value in fields.items():
        if isinstance(value, tuple):
            numbers.append(SSIZES(*value))
            value = ctypes.cast(numbers[-1], ctypes.POINTER(ctypes.c_ssize_t))
        setattr(view, name, value)
    return 0
class Slots(ctypes.Structure):
    _fields_ = [("getbuffer", GETBUFFER), ("releasebuffer", ctypes.c_void_p)]
slots = Slots(getbuffer, None)
offset = {OFFSET}
ctypes.c_void_p.from_address(id(Liar) + offset).value = ctypes.addressof(slots)
try:
    print(dl.from_dlpack(Liar()).shape)
except (BufferError, ValueError) as error:
    print("refused")
"""

LIES = {
    "shape beyond its length": {"shape": (9, 0), "strides": (8, 0)},
    "shape beyond its length, row-major": {"shape": (9, 0)},
    "elements without length": {"ndim": 0, "len": 0},
    "negative rank": {"ndim": -1, "len": 0},
    "negative shape": {"shape": (-1, 0), "strides": (8, 0)},
    "negative length": {"len": -8},
    "no item size": {"itemsize": 0},
    "negative item size": {"itemsize": -8},
    "other item size": {"itemsize": 4},
    "huge strides": {"shape": (8, 0), "strides": (2**62, 0)},
    "uneven strides": {"shape": (8, 0), "strides": (3, 0)},
    "suboffsets": {"shape": (8, 0), "strides": (8, 0), "suboffsets": (0, 0)},
    "no memory": {"buf": None, "shape": (8, 0)},
    "no memory, no rank": {"buf": None, "ndim": 0},
    "unknown format": {"format": b"dd"},
    "overflowing shape": {"ndim": 2, "shape": (2**62, 2**62)},
}


@pytest.mark.parametrize("lie", LIES)
def test_lying_buffers_are_refused(lie):
    # Of the fields of a PyTypeObject, tp_as_buffer is the eighteenth after the header.
    offset = object.__basicsize__ + 8 + 17 * ctypes.sizeof(ctypes.c_void_p)
    program = LYING_BUFFERS.replace("{FIELDS}", repr(LIES[lie])).replace("{OFFSET}", str(offset))
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=__file__.rpartition("/")[0],
    )
    assert (run.returncode, run.stdout) == (0, "refused\n"), run.stderr


def test_the_same_capsule_is_taken_once():
    class Repeats:
        def __init__(self):
            self.capsule = np.arange(3.0).__dlpack__(**VERSIONED)

        def __dlpack__(self, **options):
            return self.capsule

        def __dlpack_device__(self):
            return (1, 0)

    producer = Repeats()
    first = dl.from_dlpack(producer)
    for function in (dl.from_dlpack, dl.tensor, dl.clone):
        with pytest.raises(ValueError, match="consumed"):
            function(producer)
    assert first.tolist() == [0.0, 1.0, 2.0]


def test_producers_may_import_while_they_export():
    class Nested:
        def __init__(self, depth):
            self.depth = depth

        def __dlpack__(self, **options):
            if not self.depth:
                return np.arange(3.0).__dlpack__(**options)
            return dl.from_dlpack(Nested(self.depth - 1)).__dlpack__(**options)

        def __dlpack_device__(self):
            dl.clone(np.ones(3))
            return (1, 0)

    assert dl.from_dlpack(Nested(20)).tolist() == [0.0, 1.0, 2.0]


def test_producers_may_take_their_capsule_back():
    class Takes:
        def __dlpack__(self, **options):
            capsule = np.arange(3.0).__dlpack__(**options)
            self.tensor = dl.from_dlpack(capsule)
            return capsule

        def __dlpack_device__(self):
            return (1, 0)

    producer = Takes()
    with pytest.raises(ValueError, match="consumed"):
        dl.from_dlpack(producer)
    assert producer.tensor.tolist() == [0.0, 1.0, 2.0]


def test_capsules_of_other_names_are_refused():
    set_name = ctypes.pythonapi.PyCapsule_SetName
    set_name.argtypes = [ctypes.py_object, ctypes.c_char_p]
    names = [None, b"", b"dltensor_", b"DLTENSOR", b"used_dltensor", b"\xff"]
    for name in names:
        capsule = np.arange(3.0).__dlpack__(**VERSIONED)
        assert set_name(capsule, name) == 0
        with pytest.raises(ValueError, match="capsule"):
            dl.from_dlpack(capsule)
        assert set_name(capsule, b"dltensor_versioned") == 0
        assert dl.from_dlpack(capsule).tolist() == [0.0, 1.0, 2.0]


def test_interfaces_that_change_while_they_are_read():
    """Checks that each key is read once, and that the objects of the values are kept."""

    class Changes(dict):
        def __getitem__(self, key):
            raise AssertionError("a subclass of dict is read as a dict")

    class Shifty(Shown):
        @property
        def __array_interface__(self):
            interface = Changes(self.interface)
            self.interface = {}
            return interface

    assert dl.from_dlpack(Shifty()).tolist() == list(range(8))


def test_threads_import_one_object_at_once():
    array, errors = np.arange(1000.0), []

    def work():
        try:
            for _ in range(2000):
                assert dl.from_dlpack(array).numel() == 1000
                assert dl.from_dlpack(Shown()).numel() == 8
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
