"""A producer whose DLPack struct says anything, and children to meet it in.

Cases run in forked children, so that an abort, a segmentation fault or a hang is one failed case, which names
the signal, and not the end of the run.
"""

import ctypes as C
import functools
import gc
import os
import signal
import sys
import threading
import traceback

import pytest

import dlbridge

SECONDS = 20
READ_ONLY, IS_COPIED, PADDED = 1, 2, 4
HOST = {1, 3, 11}


def in_child(case):
    """Runs a case in a forked child, and fails as the child does."""

    @functools.wraps(case)
    def run(**arguments):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            verdict, unraisable = "", []
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(SECONDS)
                gc.freeze()  # what the parent made is not looked at again
                sys.unraisablehook = lambda event: unraisable.append(repr(event.exc_value))
                case(**arguments)
                gc.collect()
                assert unraisable == []
                verdict = "passed"
            except BaseException:
                verdict = traceback.format_exc()
            finally:
                with open(writer, "w") as pipe:
                    pipe.write(verdict)
                os._exit(0)
        os.close(writer)
        with open(reader) as pipe:
            verdict = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status < 0:
            pytest.fail(f"the child died of {signal.Signals(-status).name}", pytrace=False)
        if verdict != "passed":
            pytest.fail(f"exit status {status}\n{verdict}", pytrace=False)

    return run


def cases(**tables):
    """Runs a test in a child for each combination of these arguments."""

    def decorate(test):
        test = in_child(test)
        for name, table in tables.items():
            test = pytest.mark.parametrize(name, list(table), ids=str)(test)
        return test

    return decorate


def outcome(call, *arguments):
    """What a call gives, or the class of what it raises."""
    try:
        return call(*arguments)
    except Exception as error:
        return type(error)


class DLTensor(C.Structure):
    _fields_ = [
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
    _fields_ = [("tensor", DLTensor), ("context", C.c_void_p), ("deleter", C.c_void_p)]
    name, used = b"dltensor", b"used_dltensor"


class Versioned(C.Structure):
    _fields_ = [
        ("version", C.c_uint32 * 2),
        ("context", C.c_void_p),
        ("deleter", C.c_void_p),
        ("flags", C.c_uint64),
        ("tensor", DLTensor),
    ]
    name, used = b"dltensor_versioned", b"used_dltensor_versioned"


def interpreter(name, result, *arguments):
    return C.PYFUNCTYPE(result, *arguments)((name, C.pythonapi))


new_capsule = interpreter("PyCapsule_New", C.py_object, C.c_void_p, C.c_char_p, C.c_void_p)
name_of = interpreter("PyCapsule_GetName", C.c_char_p, C.py_object)
pointer_of = interpreter("PyCapsule_GetPointer", C.c_void_p, C.py_object, C.c_char_p)
set_name = interpreter("PyCapsule_SetName", C.c_int, C.py_object, C.c_char_p)


def opened(capsule):
    """The struct in a capsule that was not consumed yet."""
    struct_type = Versioned if name_of(capsule) == Versioned.name else Legacy
    return struct_type.from_address(pointer_of(capsule, struct_type.name))


class HostileProducer:
    """A producer whose struct says what it is told to say, and whose deleter counts its calls."""

    FIRST = 96  # where in the memory the first element is: there is room on both sides

    def __init__(
        self,
        *,
        legacy=False,
        version=(1, 3),
        flags=0,
        device=(1, 0),
        query=None,
        dtype=(0, 32, 1),
        shape=(3,),
        strides="compact",
        deleter=True,
        misplaced=0,
        context=None,
        **fields,
    ):
        self.memory = (C.c_ubyte * 256)(*range(256))
        self.first = C.addressof(self.memory) + self.FIRST
        self.query = query or device
        self.answers, self.asked, self.threads, self.intact = [], [], [], True
        struct_type = Legacy if legacy else Versioned
        self.storage = C.create_string_buffer(C.sizeof(struct_type) + 8)
        self.struct = struct_type.from_address(C.addressof(self.storage) + misplaced)
        self.callback = C.CFUNCTYPE(None, C.c_void_p)(self.delete)
        self.struct.deleter = C.cast(self.callback, C.c_void_p) if deleter else None
        self.struct.context = context
        if not legacy:
            self.struct.version[:], self.struct.flags = version, flags
        strides = compact(shape) if strides == "compact" else strides
        self.rows = [
            None if row is None else (C.c_int64 * len(row))(*row) for row in (shape, strides)
        ]
        tensor = self.struct.tensor
        tensor.data, tensor.device[:], tensor.ndim = self.first, device, len(shape)
        tensor.code, tensor.bits, tensor.lanes = dtype
        tensor.sizes, tensor.steps = (
            None if row is None else C.addressof(row) for row in self.rows
        )
        for field, value in fields.items():
            setattr(tensor, field, value)
        self.made = bytes(self.struct)
        self.capsule = new_capsule(C.addressof(self.struct), struct_type.name, None)

    def delete(self, address):
        self.threads.append(threading.get_ident())
        outcome(
            {}.__getitem__, "missing"
        )  # raises and catches, as if no exception could be on its way
        self.intact &= address == C.addressof(self.struct) and bytes(self.struct) == self.made

    @property
    def deleted(self):
        return len(self.threads)

    def __dlpack__(self, **asked):
        self.asked.append(asked)
        answer = self.answers.pop(0) if self.answers else self.capsule
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def __dlpack_device__(self):
        return self.query

    def imported(self, **options):
        """The producer's tensor: the capsule was consumed, and nothing was released."""
        tensor = dlbridge.from_dlpack(self, **options)
        assert (name_of(self.capsule), self.deleted) == (type(self.struct).used, 0)
        return tensor

    def check_released(self, times=1):
        """Fails unless the struct went back to the producer `times` times, as it was made."""
        gc.collect()
        assert (self.deleted, self.intact) == (times, True)

    def check_refused(self, match=None, times=1):
        """The struct is refused, and goes back to the producer all the same."""
        with pytest.raises(BufferError, match=match):
            dlbridge.from_dlpack(self)
        assert (name_of(self.capsule), bytes(self.struct)) == (type(self.struct).used, self.made)
        self.check_released(times)

    def elements(self, shape=(3,), strides=(1,), at=FIRST):
        """What elements of this layout are, read byte by byte."""
        if not shape:
            return int.from_bytes(self.memory[at : at + 4], sys.byteorder, signed=True)
        return [
            self.elements(shape[1:], strides[1:], at + 4 * i * strides[0]) for i in range(shape[0])
        ]


def compact(shape):
    """Row-major strides."""
    step, strides = 1, []
    for size in reversed(shape):
        strides.append(step)
        step = min(step * max(size, 1), 2**62)
    return tuple(reversed(strides))
