"""DLPack's structs and capsules in ctypes, and a producer whose struct has any given contents."""

from __future__ import annotations

import ctypes as C
import threading
from collections.abc import Sequence
from typing import Any, ClassVar, cast

READ_ONLY, IS_COPIED, PADDED = 1, 2, 4  # bits of `flags`
HOST = frozenset(
    {1, 3, 11, 20}
)  # device types whose memory the host reads: CPU, and pinned for CUDA, ROCm and TPUs
POISON = 0xEE  # the byte with which a deleter overwrites the memory


class DLTensor(C.Structure):
    """`DLTensor`; shape and strides are addresses."""

    data: int | None
    device: C.Array[C.c_int32]
    ndim: int
    code: int
    bits: int
    lanes: int
    sizes: int | None
    steps: int | None
    byte_offset: int
    _fields_: ClassVar[Any] = [
        ("data", C.c_void_p),
        ("device", C.c_int32 * 2),
        ("ndim", C.c_int32),
        ("code", C.c_uint8),
        ("bits", C.c_uint8),
        ("lanes", C.c_uint16),
        ("sizes", C.c_void_p),
        ("steps", C.c_void_p),
        ("byte_offset", C.c_uint64),
    ]


class Legacy(C.Structure):
    """`DLManagedTensor`, and the names of its capsule before and after it is consumed."""

    tensor: DLTensor
    context: int | None
    deleter: int | None
    _fields_: ClassVar[Any] = [
        ("tensor", DLTensor),
        ("context", C.c_void_p),
        ("deleter", C.c_void_p),
    ]
    name, used = b"dltensor", b"used_dltensor"


class Versioned(C.Structure):
    """`DLManagedTensorVersioned`, and the names of its capsule before and after it is consumed."""

    version: C.Array[C.c_uint32]
    context: int | None
    deleter: int | None
    flags: int
    tensor: DLTensor
    _fields_: ClassVar[Any] = [
        ("version", C.c_uint32 * 2),
        ("context", C.c_void_p),
        ("deleter", C.c_void_p),
        ("flags", C.c_uint64),
        ("tensor", DLTensor),
    ]
    name, used = b"dltensor_versioned", b"used_dltensor_versioned"


Managed = Legacy | Versioned
Deleter = C.CFUNCTYPE(None, C.c_void_p)  # called without the GIL
Destructor = C.PYFUNCTYPE(None, C.c_void_p)


def interpreter(name: str, result: Any, *arguments: Any) -> Any:
    """A function of Python's C API."""
    return C.PYFUNCTYPE(result, *arguments)((name, C.pythonapi))


new_capsule = interpreter("PyCapsule_New", C.py_object, C.c_void_p, C.c_char_p, C.c_void_p)
name_of = interpreter("PyCapsule_GetName", C.c_char_p, C.py_object)
pointer_of = interpreter("PyCapsule_GetPointer", C.c_void_p, C.py_object, C.c_char_p)
set_name = interpreter("PyCapsule_SetName", C.c_int, C.py_object, C.c_char_p)
# The same function for a capsule that is being destroyed, to which no new reference may be made.
_dying_name = interpreter("PyCapsule_GetName", C.c_char_p, C.c_void_p)
_dying_pointer = interpreter("PyCapsule_GetPointer", C.c_void_p, C.c_void_p, C.c_char_p)
_any_call = interpreter("Py_IsInitialized", C.c_int)


def opened(capsule: object) -> Managed:
    """The struct in a capsule that was not consumed yet."""
    struct_type: type[Managed] = Versioned if name_of(capsule) == Versioned.name else Legacy
    return struct_type.from_address(pointer_of(capsule, struct_type.name))


def call_deleter(struct: Managed) -> None:
    """Calls the struct's deleter, if it has one, without the GIL."""
    if struct.deleter:
        Deleter(struct.deleter)(C.addressof(struct))


def _destroy(capsule: int) -> None:
    """The destructor of a capsule, as DLPack's specification for Python describes it."""
    for struct_type in (Legacy, Versioned):
        if _dying_name(capsule) == struct_type.name:
            address = _dying_pointer(capsule, struct_type.name)
            call_deleter(struct_type.from_address(address))
            return


_DESTRUCTOR = Destructor(_destroy)  # lives as long as any capsule


def compact(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides."""
    step, strides = 1, list[int]()
    for size in reversed(shape):
        strides.append(step)
        step = min(step * max(size, 1), 2**62)
    return tuple(reversed(strides))


def aligned_memory(size: int) -> C.Array[C.c_ubyte]:
    """Bytes 0, 1, 2, …, at a multiple of 64, where JAX shares memory too."""
    buffer = bytearray(size + 64)
    at = -C.addressof(C.c_char.from_buffer(buffer)) % 64
    memory = (C.c_ubyte * size).from_buffer(buffer, at)
    memory[:] = [byte % 256 for byte in range(size)]
    return memory


class Producer:
    """A DLPack producer whose struct has the given contents, and whose deleter counts its calls.

    Named arguments beyond the listed ones set fields of the `DLTensor` (`data`, `ndim`, `sizes`,
    `steps`, `byte_offset`) after it was filled in. `destructor` gives the capsule a destructor, as DLPack's
    specification for Python demands. Without one, a capsule that is not consumed leaks its struct.
    """

    FIRST = (
        128  # where in the 256 bytes of memory the first element is: there is room on both sides
    )

    def __init__(
        self,
        *,
        legacy: bool = False,
        version: tuple[int, int] = (1, 3),
        flags: int = 0,
        device: tuple[int, int] = (1, 0),
        query: Any = None,
        dtype: tuple[int, int, int] = (0, 32, 1),
        shape: tuple[int, ...] = (3,),
        strides: tuple[int, ...] | str | None = "compact",
        deleter: bool = True,
        misplaced: int = 0,
        context: int | None = None,
        destructor: bool = False,
        poison: bool = False,
        **fields: Any,
    ) -> None:
        self.memory = aligned_memory(256)
        self.first = C.addressof(self.memory) + self.FIRST
        self.query = query or device
        self.poison, self.intact, self.pending = poison, True, list[BaseException]()
        self.answers, self.asked, self.threads = list[Any](), list[dict[str, Any]](), list[int]()
        struct_type: type[Managed] = Legacy if legacy else Versioned
        self.storage = C.create_string_buffer(C.sizeof(struct_type) + 8)
        self.struct = struct_type.from_address(C.addressof(self.storage) + misplaced)
        self.callback = Deleter(self.delete)
        self.struct.deleter = C.cast(self.callback, C.c_void_p).value if deleter else None
        self.struct.context = context
        if isinstance(self.struct, Versioned):
            self.struct.version[:], self.struct.flags = list(version), flags
        self.shape, self.strides = shape, compact(shape) if strides == "compact" else strides
        self.rows = [
            None if row is None else (C.c_int64 * len(row))(*cast(tuple[int, ...], row))
            for row in (self.shape, self.strides)
        ]
        tensor = self.struct.tensor
        tensor.data, tensor.device[:], tensor.ndim = self.first, list(device), len(shape)
        tensor.code, tensor.bits, tensor.lanes = dtype
        tensor.sizes, tensor.steps = (
            None if row is None else C.addressof(row) for row in self.rows
        )
        for field, value in fields.items():
            setattr(tensor, field, value)
        self.made = bytes(self.struct)
        finish = C.cast(_DESTRUCTOR, C.c_void_p) if destructor else None
        self.capsule = new_capsule(C.addressof(self.struct), struct_type.name, finish)

    def delete(self, address: int) -> None:
        """The deleter: records the call, and an exception that is pending."""
        try:
            _any_call()  # raises a pending exception
        except BaseException as error:
            self.pending.append(error)
        self.threads.append(threading.get_ident())
        same = address == C.addressof(self.struct)
        self.intact &= same and (self.deleted > 1 or bytes(self.struct) == self.made)
        if self.poison:  # everything but the deleter, so that a second call is counted
            self.memory[:] = [POISON] * len(self.memory)
            for part in (self.struct.tensor, *(row for row in self.rows if row is not None)):
                C.memset(C.addressof(part), POISON, C.sizeof(part))

    @property
    def deleted(self) -> int:
        """The number of calls of the deleter."""
        return len(self.threads)

    def __dlpack__(self, **asked: Any) -> Any:
        self.asked.append(asked)
        answer = self.answers.pop(0) if self.answers else self.capsule
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def __dlpack_device__(self) -> Any:
        return self.query
