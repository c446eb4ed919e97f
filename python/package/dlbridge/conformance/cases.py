"""The cases for consumers: the struct, the proper outcome, and the text that defines it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .structs import IS_COPIED, PADDED, READ_ONLY

ACCEPT, EITHER, REFUSE = "accept", "accept or refuse", "refuse"


@dataclass(frozen=True)
class Case:
    """One struct for a consumer, or one request to a producer.

    `allowed` is `ACCEPT`, `REFUSE`, or `EITHER`: accept with the right values, or raise.
    `why` names the text that the rule comes from. `fields` are arguments of `structs.Producer`,
    `protocol` names a way of handing the struct over in `imports.PROTOCOLS`. `read` is false where
    the values are not compared.
    """

    name: str
    allowed: str
    why: str
    fields: dict[str, Any] = field(default_factory=dict)
    protocol: str = ""
    read: bool = True

    @property
    def any_struct(self) -> bool:
        """Whether the case is the same with either struct."""
        said = self.fields.keys() & {"legacy", "version", "flags"}
        return not said and not self.name.endswith("/versioned")


TOUCH = "touch"  # the protocol of cases whose result is read, but not compared
BOOLS = "bools"  # the protocol of cases whose elements are the bytes 1, 0 and 1

VERSION = "dlpack.h, DLManagedTensorVersioned and DLPackVersion: "
TENSOR = "dlpack.h, DLTensor: "
DTYPE = "dlpack.h, DLDataType and DLDataTypeCode: "
PYTHON = "DLPack's Python specification: "
ARRAY_API = "array API 2025.12, __dlpack__: "
ODD = " A consumer without such arrays may refuse them."
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (("legacy", {"legacy": True}), ("versioned", {}))


def versions() -> Iterator[Case]:
    """Cases of the struct's version."""
    same = (
        VERSION + "within a major version, structs are read alike, whatever the minor version is."
    )
    yield Case(
        "version/legacy",
        ACCEPT,
        ARRAY_API + "a consumer that passes no max_version gets DLManagedTensor. One that passes "
        "max_version may refuse it, since the producer of this case takes the argument.",
        {"legacy": True},
    )
    for minor in (0, 1, 2, 3, 99):
        yield Case(f"version/1.{minor}", ACCEPT, same, {"version": (1, minor)})
    why = VERSION + "a version of major 0 has no such struct, and no text says what it means."
    yield Case("version/0.5", EITHER, why, {"version": (0, 5)})
    why = (
        VERSION
        + "of another major version, only what comes before `flags` may be read, so that the "
    )
    why += "deleter can be called."
    yield Case("version/2.0", REFUSE, why, {"version": (2, 0)})
    nowhere: dict[str, Any] = {"ndim": 2**31 - 1, "data": 8, "sizes": 8, "steps": 8}
    yield Case("version/2.0-other-fields", REFUSE, why, {"version": (2, 0), **nowhere})


LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[int, ...] | None, str]] = {
    "compact": ((2, 3), (3, 1), "row-major strides, given."),
    "null": ((2, 3), None, "NULL strides mean row-major; from DLPack 1.2 on, producers must not."),
    "column-major": ((2, 3), (1, 2), "strides are in elements, in any order."),
    "sliced": ((2, 3), (6, 2), "strides may leave gaps."),
    "negative": ((2, 3), (-3, -1), "strides are signed, and no text forbids negative ones."),
    "zero": ((2, 3), (0, 1), "no text forbids strides of 0 (a broadcast)."),
    "overlapping": ((2, 3), (1, 1), "no text forbids elements that overlap."),
    "size-1": ((1, 3, 1), (2**62, 1, -7), "where a size is 1, no element lies a stride further."),
}


def layouts() -> Iterator[Case]:
    """Cases of strides, and of the offset to the first element."""
    for kind, fields in KINDS:
        for name, (shape, strides, why) in LAYOUTS.items():
            values = {**fields, "shape": shape, "strides": strides}
            yield Case(f"strides/{name}/{kind}", EITHER, TENSOR + why + ODD, values)
        why = TENSOR + "the first element lies at data + byte_offset."
        yield Case(f"offset/one-element/{kind}", EITHER, why, {**fields, "byte_offset": 4})
        why += " This one is not aligned to its size, which no text asks for."
        yield Case(f"offset/unaligned/{kind}", EITHER, why, {**fields, "byte_offset": 3})
        values = {**fields, "byte_offset": 4, "strides": None}
        yield Case(f"offset/null-strides/{kind}", EITHER, TENSOR + "both at once.", values)
    why = TENSOR + "before DLPack 1.2, NULL strides mean row-major." + ODD
    yield Case("strides/null/version-1.0", EITHER, why, {"version": (1, 0), "strides": None})


def ownership() -> Iterator[Case]:
    """Cases of flags, of the deleter and its context, and of the order of releases."""
    yield Case(
        "flags/read-only",
        ACCEPT,
        ARRAY_API + "a consumer without read-only arrays should ignore the flag.",
        {"flags": READ_ONLY},
    )
    why = "dlpack.h, flags: the consumer is the only owner until it calls the deleter."
    yield Case("flags/copied", ACCEPT, why, {"flags": IS_COPIED})
    yield Case("flags/read-only-copied", ACCEPT, why, {"flags": READ_ONLY | IS_COPIED})
    why = "dlpack.h, flags: says how types below one byte are stored; this type has four."
    yield Case("flags/padded", EITHER, why, {"flags": PADDED})
    yield Case(
        "flags/unknown", EITHER, "dlpack.h, flags: bit 40 has no meaning.", {"flags": 1 << 40}
    )
    for kind, fields in KINDS:
        either = EITHER if "legacy" in fields else ACCEPT
        why = "dlpack.h, deleter: it may be NULL."
        yield Case(f"deleter/null/{kind}", either, why, {**fields, "deleter": False})
        why = "dlpack.h, manager_ctx: it may be NULL, and the deleter is to be called all the same."
        yield Case(f"deleter/null-context/{kind}", either, why, {**fields, "context": None})
        why = "dlpack.h, deleter: it may be called on any thread, once."
        yield Case(f"deleter/other-thread/{kind}", either, why, fields, "thread")
        why = PYTHON + "the consumer's object owns the struct, not the capsule."
        yield Case(f"deleter/capsule-first/{kind}", either, why, fields, "capsule-first")
    why = "C: a struct at an address that is no multiple of 8. No consumer needs to take it."
    yield Case("struct/misaligned", EITHER, why, {"misplaced": 4})


DEVICES = {
    "cpu-5": ((1, 5), "the index of CPU memory is 0."),
    "cuda": ((2, 0), "memory of a device, which the host must not read."),
    "cuda-host": ((3, 0), "page-locked memory, which the host reads."),
    "opencl": ((4, 0), "`data` is a handle."),
    "metal": ((8, 0), "`data` is a handle."),
    "rocm": ((10, 0), "memory of a device, which the host must not read."),
    "rocm-host": ((11, 0), "page-locked memory, which the host reads."),
    "extension": ((12, 0), "reserved."),
    "cuda-managed": ((13, 0), "memory that host and device share."),
    "unknown": ((99, 0), "no such device type."),
}


def devices() -> Iterator[Case]:
    """Cases of devices."""
    text = PYTHON + "a consumer raises BufferError for devices that it does not support. "
    for name, (device, why) in DEVICES.items():
        host = device[0] in (1, 3, 11, 13)
        fields: dict[str, Any] = {"device": device, **({} if host else {"data": 64})}
        why = text + "dlpack.h, DLDeviceType: " + why
        yield Case(f"device/{name}", EITHER, why, fields, read=host)
    lies = {"device": (2, 0), "query": (1, 0), "data": 64}
    why = "dlpack.h, DLTensor.device: the struct says CUDA, the query says CPU. The host must "
    yield Case("device/differs", EITHER, why + "not read this memory.", lies, TOUCH, read=False)
    for name, query in (("text", ("cpu", 0)), ("number", 1), ("three", (1, 0, 0))):
        why = (
            ARRAY_API
            + "`__dlpack_device__` gives a pair of integers. A consumer that does not ask "
        )
        yield Case(f"device/query-{name}", EITHER, why + "cannot know.", {"query": query})


# Name, code and bits of types that exist, then of others.
DTYPES = {
    **{f"int{bits}": (0, bits) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (1, bits) for bits in (8, 16, 32, 64)},
    **{f"float{bits}": (2, bits) for bits in (16, 32, 64)},
    "handle64": (3, 64),
    "bfloat16": (4, 16),
    "complex64": (5, 64),
    "complex128": (5, 128),
    "float8_e3m4": (7, 8),
    "float8_e4m3": (8, 8),
    "float8_e4m3b11fnuz": (9, 8),
    "float8_e4m3fn": (10, 8),
    "float8_e4m3fnuz": (11, 8),
    "float8_e5m2": (12, 8),
    "float8_e5m2fnuz": (13, 8),
    "float8_e8m0fnu": (14, 8),
    "float6_e2m3fn": (15, 6),
    "float6_e3m2fn": (16, 6),
    "float4_e2m1fn": (17, 4),
    "int4": (0, 4),
    "uint1": (1, 1),
}
ODD_BITS = {"int24": (0, 24), "float24": (2, 24), "bfloat32": (4, 32), "complex24": (5, 24)}
ODD_BITS |= {"bool1": (6, 1), "bool64": (6, 64), "float8_e5m2-of-16-bits": (12, 16)}


def dtypes() -> Iterator[Case]:
    """Cases of element types."""
    for name, (code, bits) in DTYPES.items():
        why = DTYPE + "an existing type." + ODD
        yield Case(f"dtype/{name}", EITHER, why, {"dtype": (code, bits, 1)})
    for code, bits in ((2, 32), (0, 8), (17, 4)):
        why = DTYPE + "lanes make vector types: an element has bits * lanes bits." + ODD
        yield Case(f"dtype/2-lanes-{code}-{bits}", EITHER, why, {"dtype": (code, bits, 2)})
    fields = {"dtype": (17, 4, 1), "flags": PADDED}
    yield Case("dtype/float4_e2m1fn-padded", EITHER, DTYPE + "one element a byte." + ODD, fields)
    bools = {"dtype": (6, 8, 1)}
    yield Case("dtype/bool", EITHER, DTYPE + "8 bits an element." + ODD, bools, BOOLS)
    why = DTYPE + "bytes other than 0 and 1 have no meaning; the process must survive them."
    yield Case("dtype/bool-of-other-bytes", EITHER, why, bools, read=False)
    for name, (code, bits) in ODD_BITS.items():
        why = DTYPE + "no array library has such a type; taken, its elements have these bits."
        yield Case(f"dtype/{name}", EITHER, why, {"dtype": (code, bits, 1)})
    for name, code, bits in (("float6-of-8-bits", 16, 8), ("float4-of-8-bits", 17, 8)):
        why = DTYPE + "the consumer must stop importing if `bits` is another number."
        yield Case(f"dtype/{name}", REFUSE, why, {"dtype": (code, bits, 1)})
    why = DTYPE + "`code` should be one of DLDataTypeCode."
    yield Case("dtype/unknown-code", REFUSE, why, {"dtype": (99, 32, 1)})
    why = DTYPE + "an element of no bits is no element."
    yield Case("dtype/0-bits", REFUSE, why, {"dtype": (0, 0, 1)})
    yield Case("dtype/0-lanes", REFUSE, why, {"dtype": (0, 32, 0)})


def shapes() -> Iterator[Case]:
    """Cases of sizes, also of empty tensors."""
    many = {f"{n}-dimensions": (1,) * n for n in (32, 33, 64, 65, 70, 100_000)}
    for name, shape in {"0-d": (), "1": (1,), "2x3": (2, 3), **many}.items():
        yield Case(f"shape/{name}", EITHER, TENSOR + "`ndim` is any int32." + ODD, {"shape": shape})
    why = TENSOR + "shape and strides may be NULL if ndim is 0." + ODD
    yield Case("shape/0-d-null", EITHER, why, {"shape": (), "sizes": None, "steps": None})
    empty = TENSOR + "`data` of an empty tensor should be NULL, and is often not." + ODD
    for shape in ((0,), (0, 3), (3, 0), (2**62, 2**62, 0)):
        name = "x".join(str(size) if size < 2**62 else "2**62" for size in shape)
        yield Case(f"empty/{name}", EITHER, empty, {"shape": shape})
        yield Case(f"empty/{name}/null", EITHER, empty, {"shape": shape, "data": None})
    values = {"shape": (0, 3), "strides": (-(2**62), 2**62), "data": None}
    why = TENSOR + "strides of an empty tensor lead to no element." + ODD
    yield Case("empty/strides", EITHER, why, values)


def hostile() -> Iterator[Case]:
    """Cases of numbers that describe no memory, which the struct alone shows."""
    size = "Sizes are not negative (C++ and Python: a size is a count)."
    span = "C: no object has more than PTRDIFF_MAX bytes, and no address is beyond SIZE_MAX."
    wild: dict[str, tuple[dict[str, Any], str]] = {
        "null-data": (
            {"data": None},
            TENSOR + "`data` may be NULL only where there is no element.",
        ),
        "null-shape": ({"sizes": None}, TENSOR + "`shape` may be NULL only if ndim is 0."),
        "negative-ndim": ({"ndim": -1}, TENSOR + size),
        "lowest-ndim": ({"ndim": -(2**31)}, TENSOR + size),
        "negative-size": ({"shape": (-1,)}, TENSOR + size),
        "empty-and-negative-size": ({"shape": (0, -1)}, TENSOR + size),
        "too-many-elements": ({"shape": (2**62, 8)}, span),
        "too-many-elements-null-strides": ({"shape": (2**62, 8), "strides": None}, span),
        "too-many-broadcast-elements": (
            {"shape": (2**62, 8), "strides": (0, 0)},
            "C: the number of elements fits no size_t.",
        ),
        "too-many-bytes": ({"shape": (2**62,)}, span),
        "highest-stride": ({"strides": (2**62,)}, span),
        "lowest-stride": ({"strides": (-(2**63),)}, span),
        "highest-offset": ({"byte_offset": 2**64 - 1}, span),
        "highest-address": ({"data": 2**64 - 8}, span),
        "stride-below-0": ({"data": 64, "strides": (-100,)}, span),
    }
    for name, (values, why) in wild.items():
        for kind, fields in KINDS:
            yield Case(f"hostile/{name}/{kind}", REFUSE, why, {**values, **fields})


def protocols() -> Iterator[Case]:
    """Cases of the call of `__dlpack__`."""
    text = (
        ARRAY_API + "a consumer calls again without the keywords that the producer does not know."
    )
    for name in ("old-with-stream", "old-without-arguments"):
        yield Case(f"protocol/{name}", EITHER, text, {"legacy": True}, name)
    why = PYTHON + "there is `__dlpack_device__`; a consumer may do without."
    yield Case("protocol/no-device-query", EITHER, why, {}, "no-device-query")
    why = ARRAY_API + "the producer's exception is the caller's answer."
    for name in ("raises-buffer-error", "raises-type-error", "raises-value-error"):
        yield Case(f"protocol/{name}", REFUSE, why, {}, name)
    why = PYTHON + "`__dlpack__` gives a capsule whose name says what it holds."
    for name in ("gives-none", "gives-itself", "other-name", "no-name"):
        yield Case(f"protocol/{name}", REFUSE, why, {}, name)
    why = PYTHON + "a capsule is consumed once."
    for kind, fields in KINDS:
        yield Case(f"protocol/consumed-twice/{kind}", REFUSE, why, fields, "consumed-twice")


GROUPS = (versions, layouts, ownership, devices, dtypes, shapes, hostile, protocols)
CONSUMER_CASES = {f"import/{case.name}": case for group in GROUPS for case in group()}
