"""Imports of DLPack structs: each field with valid and invalid values, and each version of `__dlpack__`.

Each case meets its producer in a child process.
"""

import ctypes as C
import math
import os

import ml_dtypes
import numpy as np
import pytest

import dlbridge
from producer import (
    HOST,
    IS_COPIED,
    PADDED,
    READ_ONLY,
    HostileProducer,
    Legacy,
    Versioned,
    cases,
    compact,
    name_of,
    new_capsule,
    opened,
    outcome,
)

if not hasattr(os, "fork"):
    pytest.skip("there are no forks here", allow_module_level=True)
# The parent may have threads of other libraries; the children use none of them.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork")


def read_by_numpy(tensor):
    return np.from_dlpack(tensor).tolist()


READS = [
    lambda tensor: tensor.tolist(),
    lambda tensor: tensor.numpy().tolist(),
    lambda tensor: tensor.clone().tolist(),
    lambda tensor: tensor.contiguous().numpy().tolist(),
    lambda tensor: memoryview(tensor).tolist(),
    read_by_numpy,
    lambda tensor: dlbridge.from_dlpack(tensor, copy=True).tolist(),
]
LAYOUTS = {
    "NULL": ((2, 3), None),
    "compact": ((2, 3), (3, 1)),
    "column-major": ((2, 3), (1, 2)),
    "negative": ((2, 3), (-3, -1)),
    "zero": ((2, 3), (0, 1)),
    "overlapping": ((2, 3), (1, 1)),
    "odd where the size is 1": ((1, 3, 1), (2**62, 1, -7)),
}
VERSIONS = [(0, 5), (1, 0), (1, 2), (1, 3), (1, 99), (2, 0), "legacy"]


@cases(version=VERSIONS, layout=LAYOUTS, byte_offset=[0, 4, 3])
def test_every_combination_of_version_strides_and_offset(version, layout, byte_offset):
    shape, strides = LAYOUTS[layout]
    kind = {"legacy": True} if version == "legacy" else {"version": version}
    producer = HostileProducer(
        **kind, shape=shape, strides=strides, byte_offset=byte_offset, context=0x5EED
    )
    if version in [(0, 5), (2, 0)]:
        return producer.check_refused(match="version")
    strides = strides or compact(shape)
    if layout == "odd where the size is 1":
        strides = (3, 1, 1)  # strides that reach no element are replaced
    tensor = producer.imported()
    assert (tensor.shape, tensor.stride(), tensor.data_ptr()) == (
        shape,
        strides,
        producer.first + byte_offset,
    )
    assert tensor.is_contiguous() is (layout in {"NULL", "compact", "odd where the size is 1"})
    for read in READS:
        assert read(tensor) == producer.elements(
            shape, strides, HostileProducer.FIRST + byte_offset
        )
    del tensor
    producer.check_released()


WILD = [  # what cannot be, and addresses that lead nowhere
    {
        "version": (2, 0),
        "ndim": 2**31 - 1,
        "data": 8,
        "sizes": 8,
        "steps": 8,
    },  # nothing of it is to be read
    {"sizes": None},
    {"sizes": 0x1001},
    {"steps": 0x1002},
    {"byte_offset": 2**64 - 1},
    {"data": 2**64 - 8},
    {"data": 64, "strides": (-100,)},
    {"strides": (2**62,)},
    {"strides": (-(2**63),)},
    {"shape": (-1,)},
    {"shape": (0, -1)},
    {"ndim": -1},
    {"ndim": -(2**31)},
    {"shape": (2**62, 8)},
    {"shape": (2**62, 8), "strides": (0, 0)},
    {"shape": (2**62, 8), "strides": None},
]


@cases(fields=WILD, more=[{}, {"legacy": True}, {"deleter": False}, {"data": None}])
def test_invalid_fields_are_refused(fields, more):
    if "legacy" in more and "version" in fields:
        return  # there are no versions to tell it by
    HostileProducer(**fields | more).check_refused(times=int(more.get("deleter", True)))


@cases(misplaced=[1, 4])
def test_misaligned_structs_are_released_at_most_once(misplaced):
    producer = HostileProducer(misplaced=misplaced)
    with pytest.raises(BufferError, match="misaligned"):
        dlbridge.from_dlpack(producer)
    # Either it is still the capsule's, or it was consumed and released.
    assert (name_of(producer.capsule), producer.deleted) in [
        (Versioned.name, 0),
        (Versioned.used, 1),
    ]


FLAGS = ["legacy", 0, READ_ONLY, IS_COPIED, READ_ONLY | IS_COPIED, PADDED, 1 << 40]


@cases(flags=FLAGS, wanted=["read", "write"])
def test_every_flag(flags, wanted):
    producer = HostileProducer(legacy=True) if flags == "legacy" else HostileProducer(flags=flags)
    readonly = flags == "legacy" or bool(flags & READ_ONLY)
    before = producer.elements()
    tensor = producer.imported()
    view, array = memoryview(tensor), tensor.numpy()
    assert (tensor.readonly, view.readonly, array.flags.writeable) == (
        readonly,
        readonly,
        not readonly,
    )
    if wanted == "read":
        assert view.tolist() == array.tolist() == before
        assert opened(tensor.__dlpack__(max_version=(1, 0))).flags & READ_ONLY == readonly
        assert np.from_dlpack(tensor).flags.writeable is not readonly
    elif readonly:
        writes = [
            lambda: view.__setitem__(0, 7),
            lambda: array.__setitem__(0, 7),
            lambda: dlbridge.copyto(tensor, tensor.clone()),
            tensor.__dlpack__,
            lambda: tensor.__dlpack__(max_version=(0, 8)),
        ]
        refusals = [TypeError, ValueError, ValueError, BufferError, BufferError]
        assert [outcome(write) for write in writes] == refusals and producer.elements() == before
        assert name_of(tensor.__dlpack__(copy=True)) == Legacy.name
        del writes
    else:
        view[0], array[1] = 7, 8
        dlbridge.copyto(tensor, tensor.numpy()[::-1].copy())
        assert producer.elements() == tensor.tolist() == [before[2], 8, 7]
        assert name_of(tensor.__dlpack__()) == Legacy.name
    del tensor, view, array
    producer.check_released()


DEVICES = [(kind, 0) for kind in (1, 2, 3, 10, 11, 12, 13, 18, 19, 20, 21, 99)] + [(1, 5)]


@cases(query=["the same", (1, 0), (3, 0), (11, 0), (2, 1), (10, 0)], given=DEVICES)
def test_every_device(query, given):
    host = given[0] in HOST
    query = given if query == "the same" else query
    producer = HostileProducer(query=query, device=given, **({} if host else {"data": 64}))
    if given[0] == 99 or (query != given and not {query[0], given[0]} <= HOST):
        return producer.check_refused(match="of type 99|its memory is on")
    tensor = producer.imported()
    assert (tensor.__dlpack_device__(), tensor.shape) == (given, (3,))
    assert tuple(opened(tensor.__dlpack__(max_version=(1, 0))).tensor.device) == given
    assert tensor.device in repr(tensor)
    for read in READS if host else []:
        if given[0] != 20 or read is not read_by_numpy:  # NumPy does not know TPUs
            assert read(tensor) == producer.elements()
    accesses = [
        lambda: memoryview(tensor),
        tensor.clone,
        tensor.tolist,
        tensor.numpy,
        tensor.__array__,
    ]
    refusals = [BufferError, BufferError, TypeError, TypeError, TypeError]
    assert host or [outcome(access) for access in accesses] == refusals
    accesses.clear()
    del tensor
    producer.check_released()


# Bits that are right and bits that are not, by code. No bits are right for handles, nor for unknown
# codes.
BITS = {
    0: (32, 128),
    1: (8, 0),
    2: (64, 24),
    3: (None, 64),
    4: (16, 32),
    5: (64, 24),
    6: (8, 1),
    15: (6, 8),
    16: (6, 4),
    17: (4, 8),
    18: (None, 8),
    **dict.fromkeys(range(7, 15), (8, 16)),
}
NAMES = [
    "i4",
    "u1",
    "f8",
    None,
    "bfloat16",
    "c8",
    "?",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float4_e2m1fn",
    None,
]


@cases(code=sorted(BITS), right=[True, False], lanes=[0, 1, 2], flags=[0, PADDED])
def test_every_dtype(code, right, lanes, flags):
    bits = BITS[code][0 if right else 1]
    producer = HostileProducer(dtype=(code, 8 if bits is None else bits, lanes), flags=flags)
    if not right or bits is None or lanes == 0:
        return producer.check_refused()
    stored = 8 if flags & PADDED and bits < 8 else bits
    tensor = producer.imported()
    assert tensor.dtype in repr(tensor) and tensor.nbytes == (3 * stored * lanes + 7) // 8
    raw = bytes(producer.memory[HostileProducer.FIRST : HostileProducer.FIRST + tensor.nbytes])
    dtype = np.dtype(getattr(ml_dtypes, NAMES[code], NAMES[code]))
    array = outcome(tensor.numpy)
    assert array is TypeError or (array.dtype, array.tobytes(), array.ctypes.data) == (
        dtype,
        raw,
        producer.first,
    )
    assert (array is not TypeError) == (lanes == 1 and stored % 8 == 0)
    number = lanes == 1 and code <= 6
    # ml_dtypes lists numbers of its own, where Python's are wanted.
    numbers = (
        np.frombuffer(raw, dtype).astype("f4" if code == 4 else dtype).tolist()
        if number
        else TypeError
    )
    assert repr(outcome(tensor.tolist)) == repr(numbers)
    assert outcome(lambda: bytes(memoryview(tensor))) == (
        raw if number and code != 4 else BufferError
    )
    del tensor, array
    producer.check_released()


SHAPES = {  # shape, and what listing it raises
    **{str(shape): (shape, None) for shape in [(), (0,), (0, 3), (3, 0), (1,), (2, 3)]},
    "64 ones": ((1,) * 64, None),
    "70 ones": ((1,) * 70, ValueError),
    "100000 ones": ((1,) * 100_000, ValueError),
    "(2**62, 2**62, 0)": ((2**62, 2**62, 0), MemoryError),
}


@cases(name=SHAPES, data=["ok", "NULL"], strides=["compact", None])
def test_every_shape(name, data, strides):
    shape, error = SHAPES[name]
    producer = HostileProducer(
        shape=shape, strides=strides, **({} if data == "ok" else {"data": None})
    )
    count = math.prod(shape)
    if data == "NULL" and count:
        return producer.check_refused(match="memory")
    tensor = producer.imported()
    assert (tensor.shape, tensor.numel(), tensor.nbytes) == (shape, count, 4 * count)
    assert tensor.is_contiguous() and tensor.clone().shape == shape
    assert opened(tensor.__dlpack__(max_version=(1, 0))).tensor.ndim == len(shape)
    assert tensor.dtype in repr(tensor)
    if error is None:
        for read in READS:
            assert read(tensor) == producer.elements(shape, compact(shape))
    else:  # deeper or longer than lists and arrays go
        assert outcome(tensor.tolist) is error
        assert {outcome(access) for access in (tensor.numpy, tensor.__array__)} <= {
            ValueError,
            BufferError,
        }
    del tensor
    producer.check_released()


@cases()
def test_broadcasts_larger_than_memory():
    producer = HostileProducer(shape=(2**30, 2**30), strides=(0, 0))
    tensor = producer.imported()
    assert (tensor.numel(), tensor.numpy().shape, len(repr(tensor)) < 1000) == (
        2**60,
        tensor.shape,
        True,
    )
    for copy in (tensor.tolist, tensor.clone, tensor.contiguous, lambda: dlbridge.tensor(tensor)):
        assert outcome(copy) is MemoryError
    del tensor, copy
    producer.check_released()


ASKED = [  # device of the producer, options of the caller, what the producer is asked besides a version
    ((1, 0), {}, {}),
    ((1, 0), {"copy": True}, {}),  # dlbridge copies host memory itself
    ((1, 0), {"copy": False}, {"copy": False}),
    ((3, 0), {"device": "cpu"}, {}),
    ((2, 0), {}, {"stream": 1}),
    ((10, 0), {}, {"stream": 0}),
    ((2, 1), {"copy": True}, {"stream": 1, "copy": True}),
    ((2, 1), {"copy": False}, {"stream": 1, "copy": False}),
    ((2, 1), {"device": "cpu"}, {"dl_device": (1, 0)}),
    ((12, 0), {"device": (1, 0), "copy": True}, {"dl_device": (1, 0), "copy": True}),
]


@cases(case=ASKED)
def test_arguments_passed_to_the_producer(case):
    query, options, asked = case
    producer = HostileProducer(query=query, device=(1, 0) if "dl_device" in asked else query)
    assert dlbridge.from_dlpack(producer, **options).shape == (3,)
    assert producer.asked == [{"max_version": (1, 3), **asked}]
    producer.check_released()
    # If it does not take the keywords, it is called again without them, unless they are needed.
    producer = HostileProducer(query=query, device=query)
    producer.answers = [first := TypeError("unexpected keyword"), producer.capsule]
    if {"copy", "dl_device"} & asked.keys():
        with pytest.raises(ValueError, match="does not take") as raised:
            dlbridge.from_dlpack(producer, **options)
        assert (raised.value.__cause__, len(producer.asked), producer.deleted) == (first, 1, 0)
    else:
        assert dlbridge.from_dlpack(producer, **options).shape == (3,)
        assert producer.asked[1:] == [asked]
        producer.check_released()


PRODUCERS = {  # what is different about producers of the first protocol
    "new": {},
    "taking a stream": {
        "__dlpack__": lambda self, stream=None: HostileProducer.__dlpack__(self, stream=stream)
    },
    "taking nothing": {"__dlpack__": lambda self: HostileProducer.__dlpack__(self)},
    "without a device query": {"__dlpack_device__": property()},  # raises AttributeError
}


@cases(age=PRODUCERS, legacy=[True, False], deleter=[True, False])
def test_producers_of_older_protocols(age, legacy, deleter):
    producer = type("Old", (HostileProducer,), PRODUCERS[age])(legacy=legacy, deleter=deleter)
    if "taking" in age:
        with pytest.raises(ValueError, match="does not take") as raised:
            dlbridge.from_dlpack(producer, copy=False)
        assert isinstance(raised.value.__cause__, TypeError) and producer.asked == []
    tensor = producer.imported()
    assert (tensor.tolist(), tensor.readonly, len(producer.asked)) == (
        producer.elements(),
        legacy,
        1,
    )
    for again in (producer, producer.capsule):
        with pytest.raises(ValueError, match="consumed already"):
            dlbridge.from_dlpack(again)
    if deleter:  # the same struct in another capsule
        with pytest.raises(BufferError, match="consumed already"):
            dlbridge.from_dlpack(
                new_capsule(C.addressof(producer.struct), type(producer.struct).name, None)
            )
    assert producer.deleted == 0
    del tensor
    producer.check_released(times=int(deleter))


RAISED = [
    *([error("no")] for error in (BufferError, ValueError, RuntimeError, KeyboardInterrupt)),
    [TypeError("unexpected keyword"), TypeError("nor so")],
    [TypeError("unexpected keyword"), BufferError("nor so")],
    [TypeError("no such elements")],
]


@cases(answers=RAISED)
def test_producers_that_raise(answers):
    producer = HostileProducer()
    producer.answers = list(answers)
    with pytest.raises(type(answers[-1])) as raised:
        dlbridge.from_dlpack(producer)
    assert (
        raised.value is answers[-1]
        and producer.asked == [{"max_version": (1, 3)}, {}][: len(answers)]
    )
    replaced = len(answers) > 1 and isinstance(raised.value, TypeError)
    assert raised.value.__cause__ is (answers[0] if replaced else None)
    assert (name_of(producer.capsule), producer.deleted) == (Versioned.name, 0)


NO_TENSORS = {
    "nothing": (lambda producer: None, TypeError),
    "an object": (lambda producer: producer, TypeError),
    "a capsule of another name": (
        lambda producer: new_capsule(producer.first, b"tensor", None),
        ValueError,
    ),
    "a capsule without a name": (
        lambda producer: new_capsule(producer.first, None, None),
        ValueError,
    ),
}


@cases(given=NO_TENSORS)
def test_producers_that_return_no_tensor(given):
    producer, (give, error) = HostileProducer(), NO_TENSORS[given]
    producer.answers = [give(producer)]
    with pytest.raises(error, match="capsule"):
        dlbridge.from_dlpack(producer)
    for option in ({"copy": False}, {"copy": True}, {"device": "cpu"}):  # a capsule has no options
        with pytest.raises(ValueError, match="capsule"):
            dlbridge.from_dlpack(producer.capsule, **option)
    assert (name_of(producer.capsule), producer.deleted) == (Versioned.name, 0)


@cases(query=[1, (1,), (1, 0, 0), ("cpu", 0), (2**40, 0), [1, 0]])
def test_producers_with_invalid_devices(query):
    producer = HostileProducer(query=query)
    with pytest.raises(TypeError, match="device"):
        dlbridge.from_dlpack(producer)
    assert (producer.asked, name_of(producer.capsule), producer.deleted) == ([], Versioned.name, 0)
