"""Consumers and producers with one fault each, which the conformance kit must report."""

import ctypes as C
import os
import time

from dlbridge.conformance.elements import rows
from dlbridge.conformance.structs import (
    Producer,
    Versioned,
    call_deleter,
    name_of,
    new_capsule,
    opened,
    set_name,
)

# -- consumers
# ---------------------------------------------------------------------------------------------------


class Array:
    """A consumer's array over the memory of a consumed struct."""

    free = True

    def __init__(self, struct, shift=0):
        self.struct, (shape, strides), tensor = struct, rows(struct.tensor), struct.tensor
        itemsize = tensor.bits // 8
        data = ((tensor.data or 0) + tensor.byte_offset + shift, True)
        strides = tuple(itemsize * step for step in strides)
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "strides": strides,
            "data": data,
            "typestr": f"|V{itemsize}",
        }

    def __del__(self):
        if self.free:
            call_deleter(self.struct)


class Forgetful(Array):
    free = False


def asked(x):
    try:
        return x.__dlpack__(max_version=(1, 3))
    except TypeError:
        return x.__dlpack__()


def consume(x, check=True):
    """The struct of a producer, which is checked before it is consumed."""
    capsule = asked(x)
    struct = opened(capsule)
    if check and isinstance(struct, Versioned) and struct.version[0] != 1:
        raise BufferError("another major version")
    if check:
        inspect(struct.tensor)
    set_name(capsule, type(struct).used)
    return struct


def inspect(tensor):
    """Raises for a struct that a careful consumer refuses."""
    if tuple(tensor.device) != (1, 0) or not 0 <= tensor.ndim <= 8 or not tensor.data:
        raise BufferError("no host memory, or no count of dimensions")
    if tensor.code not in (0, 1, 2) or tensor.bits not in (8, 16, 32, 64) or tensor.lanes != 1:
        raise BufferError("an element type that is not known")
    if tensor.ndim and not tensor.sizes:
        raise BufferError("no shape")
    shape, strides = rows(tensor)
    reach = sum(abs((size - 1) * step) for size, step in zip(shape, strides, strict=True))
    if any(not 0 < size < 100 for size in shape) or reach > 100:
        raise BufferError("too far")
    if tensor.byte_offset > 100 or not 1 << 12 <= tensor.data < 1 << 56:
        raise BufferError("no address")


def careful(x):
    return Array(consume(x))


def careless(x):
    return Array(consume(x, check=False)) if opened(asked(x)).tensor.ndim > 0 else careful(x)


class Unreadable(Array):
    """The result, which an attempt to read it keeps alive."""

    kept = []

    @property
    def __array_interface__(self):
        self.kept.append(self)
        raise ValueError("not readable")

    @__array_interface__.setter
    def __array_interface__(self, interface):
        pass


def unreadable(x):
    return Unreadable(consume(x))


def leaks(x):
    return Forgetful(consume(x))


def frees_twice(x):
    array = Array(consume(x))
    array.again = Array(array.struct)
    return array


def frees_early(x):
    struct = consume(x)
    array = Forgetful(struct)
    call_deleter(struct)
    return array


def frees_and_raises(x):
    call_deleter(opened(asked(x)))  # and the capsule keeps its name, so that it frees as well
    raise BufferError("no")


def takes_and_raises(x):
    consume(x)
    raise BufferError("no")


def reads_elsewhere(x):
    return Array(consume(x), shift=4)


def crashes(x):
    C.string_at(0)


def aborts(x):
    os.write(2, b"terminate called\n  what():  on purpose\n  a frame of the stack\n")
    os.abort()


def exits(x):
    os._exit(3)


def hangs_once(x):
    if x.struct.version[1] == 2:
        time.sleep(1000)
    return careful(x)


def refuses(x):
    raise BufferError("no")


def masks(x):
    raise SystemError("returned NULL without setting an exception")


class Panic(BaseException):
    pass


def panics(x):
    raise Panic("on purpose")


def gives_no_array(x):
    consume(x)
    return object()


def old(x):
    """Requests `DLManagedTensor` only."""
    capsule = x.__dlpack__()
    struct = opened(capsule)
    set_name(capsule, type(struct).used)
    return Array(struct)


damaged = []


def crashes_later(x):
    """Calls the deleter twice, and crashes in the next case of the same process."""
    if damaged:
        os.abort()
    damaged.append(x.struct.tensor.byte_offset)
    return frees_twice(x)


def crashes_on_offsets(x):
    if x.struct.tensor.byte_offset:
        os.abort()
    return careful(x)


no_function = 1

# -- producers
# ---------------------------------------------------------------------------------------------------

kept = []  # the structs, whose deleter frees their memory


class Exported(Producer):
    """A struct that holds its exporter until the deleter is called."""

    def __init__(self, exporter, **options):
        self.exporter = exporter
        super().__init__(destructor=True, **options)
        kept.append(self)

    def delete(self, address):
        super().delete(address)
        self.exporter = None

    def handed_over(self):
        capsule, self.capsule = self.capsule, None
        return capsule


class Exporter:
    """Memory of 4 MiB, whose first elements are exported as the consumer requests."""

    options = {}

    def __init__(self):
        self.memory = (C.c_int32 * (1 << 20))(*range(100))
        C.memset(C.addressof(self.memory) + 400, 1, C.sizeof(self.memory) - 400)
        data = (C.addressof(self.memory), False)
        self.__array_interface__ = {"version": 3, "shape": (2, 3), "typestr": "<i4", "data": data}

    def data(self, copy):
        return C.addressof(self.memory)

    def __dlpack__(self, stream=None, max_version=None, dl_device=None, copy=None):
        if dl_device not in (None, (1, 0)):
            raise BufferError("no such device")
        legacy = max_version is None or max_version[0] < 1
        options = {"shape": (2, 3), "data": self.data(copy), "flags": 2 if copy else 0}
        return self.capsule(**options | {"legacy": legacy} | self.options)

    def capsule(self, **options):
        return Exported(self, **options).handed_over()

    def __dlpack_device__(self):
        return (1, 0)


class Good(Exporter):
    def data(self, copy):
        if copy:
            self.copied = (C.c_int32 * 6)(*range(6))
        return C.addressof(self.copied if copy else self.memory)


class Shares(Exporter):
    """Shares the memory in spite of copy=True."""


class Silent(Good):
    """Copies without the flag that says so."""

    options = {"flags": 0}


class Newer(Good):
    options = {"version": (2, 0)}


class WithoutStrides(Good):
    options = {"strides": None}


class Elsewhere(Good):
    options = {"device": (2, 0)}


class Shifted(Good):
    options = {"byte_offset": 4}


class AlwaysVersioned(Good):
    options = {"legacy": False}


class OtherName(Good):
    def capsule(self, **options):
        return new_capsule(C.addressof(self.memory), b"tensor", None)


class NoCapsule(Good):
    def capsule(self, **options):
        return self


class AnyDevice(Good):
    def __dlpack__(self, dl_device=None, **asked):
        return super().__dlpack__(**asked)


class OtherError(Good):
    def __dlpack__(self, dl_device=None, **asked):
        if dl_device:
            raise RuntimeError("no such device")
        return super().__dlpack__(**asked)


class Masking(Good):
    def __dlpack__(self, **asked):
        raise SystemError("on purpose")


class Crashing(Good):
    def __dlpack__(self, **asked):
        C.string_at(0)


class OneStruct(Good):
    """Gives the same struct in two capsules."""

    def capsule(self, **options):
        self.one = getattr(self, "one", None) or Exported(self, **options)
        name = type(self.one.struct).name
        return new_capsule(C.addressof(self.one.struct), name, None)


class Hoarding(Good):
    """Leaks the memory."""

    hoard = []

    def __init__(self):
        super().__init__()
        self.hoard.append(self.memory)


class Borrowed(Good):
    """Makes structs that do not keep the memory, which other values get when the array is gone."""

    # Freed memory might get any values before the test reads it.
    overwritten = []

    def __del__(self):
        C.memset(C.addressof(self.memory), 0xEE, 24)
        self.overwritten.append(self.memory)

    def capsule(self, **options):
        return Exported(None, **options).handed_over()


_DESTROY = C.PYFUNCTYPE(None, C.c_void_p)(lambda capsule: call_deleter(kept[-1].struct))


class FreesConsumed(Good):
    """Makes capsules whose destructor ignores the name."""

    def capsule(self, **options):
        struct = Exported(self, **options).struct
        destroy = C.cast(_DESTROY, C.c_void_p)
        return new_capsule(C.addressof(struct), type(struct).name, destroy)


class Device(Good):
    def __dlpack_device__(self):
        return "cpu"


assert name_of(Good().__dlpack__()) == b"dltensor"
