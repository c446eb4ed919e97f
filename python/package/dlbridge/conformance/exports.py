"""The cases for producers: the arguments of `__dlpack__`, and the contents of the capsule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from . import verdicts
from .capsules import Export, Found, array_of, device_of
from .cases import ARRAY_API, EITHER, REFUSE, TENSOR, Case
from .libraries import Library
from .structs import IS_COPIED, READ_ONLY, Legacy, Versioned
from .verdicts import Outcome

Check = Callable[[Library], Outcome]
Listed = TypeVar("Listed", bound=Check)
NEW = {"max_version": (1, 3)}


PRODUCER_CASES: dict[str, Case] = {}
CHECKS: dict[str, Check] = {}


def case(name: str, why: str, allowed: str = EITHER) -> Callable[[Listed], Listed]:
    """Registers a check under this name."""

    def add(check: Listed) -> Listed:
        PRODUCER_CASES[f"export/{name}"] = Case(name, allowed, why)
        CHECKS[f"export/{name}"] = check
        return check

    return add


def exported(library: Library, kind: str = "plain", **asked: Any) -> Outcome:
    """Exports an array of this kind, checks the struct, and frees it."""
    array = array_of(library, kind)
    export = Export(array, **asked)
    try:
        return export.check(array, library.read(array))
    finally:
        export.free()


@case("device-query", ARRAY_API + "`__dlpack_device__` gives a pair of integers.")
def device_query(library: Library) -> Outcome:
    device = array_of(library).__dlpack_device__()
    if isinstance(device, tuple) and len(device) == 2 and all(isinstance(n, int) for n in device):
        return Outcome(verdicts.ACCEPTED)
    return Outcome(verdicts.WRONG_STRUCT, repr(device))


@case(
    "legacy",
    ARRAY_API
    + 'without max_version, the capsule is a "dltensor". From March 2025 on a producer may '
    "raise BufferError.",
)
def legacy(library: Library) -> Outcome:
    array = array_of(library)
    export = Export(array)
    try:
        if export.name != Legacy.name:
            return Outcome(verdicts.WRONG_STRUCT, f"the capsule's name is {export.name!r}")
        return export.check(array, library.read(array))
    finally:
        export.free()


def add_versions() -> None:
    """One case for each `max_version`."""
    why = ARRAY_API + "a producer gives `max_version` or another version that the consumer checks."
    why += " One that does not know the keyword raises TypeError."

    def check(version: tuple[int, int]) -> Check:
        return lambda library: exported(library, max_version=version)

    for version in ((1, 0), (1, 3), (1, 99), (2, 0)):
        case("version-{}.{}".format(*version), why)(check(version))


def add_layouts() -> None:
    """One case for each kind of array."""
    whys = {
        "transposed": TENSOR + "strides are in elements.",
        "sliced": TENSOR + "strides may leave gaps.",
        "negative": TENSOR + "strides are signed. A producer may copy or refuse instead.",
        "broadcast": TENSOR + "strides may be 0. A producer may copy or refuse instead.",
        "empty": TENSOR + "`data` should be NULL, which is not checked.",
        "0-d": TENSOR + "shape and strides may be NULL.",
    }

    def check(kind: str, asked: dict[str, Any]) -> Check:
        return lambda library: exported(library, kind, **asked)

    for kind, why in whys.items():
        case(f"{kind}/legacy", why)(check(kind, {}))
        case(f"{kind}/versioned", why)(check(kind, NEW))


add_versions()
add_layouts()


@case("copy-true", ARRAY_API + "always copy; when a copy is made, the flag IS_COPIED must be set.")
def copy_true(library: Library) -> Outcome:
    array = array_of(library)
    shared = Export(array, **NEW)
    where = shared.struct.tensor.data
    try:
        export = Export(array, **NEW, copy=True)
        try:
            if export.struct.tensor.data == where:
                return Outcome(verdicts.WRONG_STRUCT, "copy=True, and the memory is shared")
            if isinstance(export.struct, Versioned) and not export.flags & IS_COPIED:
                return Outcome(verdicts.WRONG_STRUCT, "copied, and the flag IS_COPIED is not set")
            return export.check(array, library.read(array))
        finally:
            export.free()
    finally:
        shared.free()


@case("copy-false", ARRAY_API + "never copy, so the flag IS_COPIED is not set.")
def copy_false(library: Library) -> Outcome:
    array = array_of(library)
    export = Export(array, **NEW, copy=False)
    try:
        if export.flags & IS_COPIED:
            return Outcome(verdicts.WRONG_STRUCT, "copy=False, and the flag IS_COPIED is set")
        return export.check(array, library.read(array))
    finally:
        export.free()


@case("dl-device-own", ARRAY_API + "dl_device in the format of `__dlpack_device__`.")
def dl_device_own(library: Library) -> Outcome:
    return exported(library, "plain", **NEW, dl_device=device_of(array_of(library)))


@case(
    "dl-device-unknown",
    ARRAY_API
    + "for a device type that the producer cannot handle, it must raise BufferError. One that "
    "does not know the keyword raises TypeError.",
    REFUSE,
)
def dl_device_unknown(library: Library) -> Outcome:
    array = array_of(library)
    try:
        export = Export(array, **NEW, dl_device=(99, 0))
    except Found as found:
        if found.error is None or isinstance(found.error, (BufferError, TypeError)):
            raise
        return Outcome(verdicts.WRONG_ERROR, found.outcome.detail)
    device = export.device
    export.free()
    return Outcome(verdicts.ACCEPTED_HOSTILE, f"asked for device (99, 0), got {device}")


@case("stream-none", ARRAY_API + "stream=None is always allowed.")
def stream_none(library: Library) -> Outcome:
    return exported(library, stream=None)


@case(
    "stream-without-streams",
    ARRAY_API
    + "where a device has no streams, only None is accepted; several libraries ignore others.",
)
def stream_without_streams(library: Library) -> Outcome:
    if device_of(array_of(library))[0] != 1:
        raise Found(verdicts.NOT_APPLICABLE, "its device has streams")
    return exported(library, stream=1)


@case("read-only/versioned", "dlpack.h, flags: READ_ONLY says that the memory must not be written.")
def read_only_versioned(library: Library) -> Outcome:
    export = Export(array_of(library, "read-only"), **NEW)
    flags, name = export.flags, export.name
    export.free()
    if name == Versioned.name and not flags & READ_ONLY:
        return Outcome(verdicts.WRONG_STRUCT, "the array is read-only, and the flag is not set")
    return Outcome(verdicts.ACCEPTED)


@case(
    "read-only/legacy",
    "dlpack.h: DLManagedTensor has no flags. Refusing is safe, and not asked for.",
)
def read_only_legacy(library: Library) -> Outcome:
    return exported(library, "read-only")
