"""Prints what a bug report needs: versions, the machine, CUDA, and the array libraries that are installed.

Run it as `python -m dlbridge`. No array library is imported. If the CUDA driver has a device, one element is copied to
the first device and back.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import dlbridge as dl

# The Cargo features that the extension module is built with. A test compares them with Cargo.toml.
FEATURES = ("cuda", "parallel")

# Modules that exchange arrays with dlbridge, and the distributions that contain them.
LIBRARIES = {
    "numpy": ("numpy",),
    "ml_dtypes": ("ml_dtypes",),
    "torch": ("torch",),
    "jax": ("jax",),
    "jaxlib": ("jaxlib",),
    "cupy": ("cupy-cuda13x", "cupy-cuda12x", "cupy"),
    "numba": ("numba",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "paddle": ("paddlepaddle", "paddlepaddle-gpu"),
    "mlx": ("mlx",),
    "tvm_ffi": ("apache-tvm-ffi",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "pyarrow": ("pyarrow",),
    "pandas": ("pandas",),
    "polars": ("polars",),
    "PIL": ("pillow",),
    "array_api_strict": ("array-api-strict",),
    "ray": ("ray",),
    "dask": ("dask",),
}

# Environment variables that change what dlbridge, the CUDA driver or the memory allocator do.
VARIABLES = (
    "DLBRIDGE_CACHE_LIMIT",
    "RAYON_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_LAUNCH_BLOCKING",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
    "MALLOC_ARENA_MAX",
)

# Processor features that the copy engine looks for, as Linux names them.
INSTRUCTIONS = ("avx2", "avx512bw", "avx512vl", "avx512vbmi")


def version_of(module: str) -> str | None:
    """The version of the distribution of a module; `None` if the module is not installed."""
    try:
        if importlib.util.find_spec(module) is None:
            return None
    except (ImportError, ValueError):
        return None
    for distribution in LIBRARIES[module]:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown version"


def python() -> str:
    """The interpreter and its version."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{name}, {sys.executable}"


def system() -> str:
    """The system, its C library and the architecture."""
    libc = " ".join(filter(None, platform.libc_ver()))
    return ", ".join(filter(None, (platform.system(), platform.release(), libc)))


def processor() -> str:
    """The processor, as Linux describes it, and how many of its threads this process may use."""
    model, flags = platform.processor(), set[str]()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags.update(value.split())
    parts = [platform.machine(), model, usable_threads()]
    parts += [name for name in INSTRUCTIONS if name in flags]
    return ", ".join(filter(None, parts))


def usable_threads() -> str:
    """The number of processors that this process may use, and that the machine has."""
    count = os.cpu_count()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    return f"{usable} of {count} processors"


def huge_pages() -> str:
    """Whether Linux gives huge pages to programs that ask for them: the setting in brackets holds."""
    try:
        setting = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    return setting.strip()


def driver() -> ctypes.CDLL | None:
    """The CUDA driver, if there is one."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def device_name(library: ctypes.CDLL, index: int) -> str:
    """The driver's name for a device; empty if the driver does not say it."""
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    if not hasattr(library, "cuDeviceGetName"):
        return ""
    if library.cuDeviceGet(ctypes.byref(device), index):
        return ""
    if library.cuDeviceGetName(name, len(name), device):
        return ""
    return name.value.decode(errors="replace")


def cuda() -> Iterator[str]:
    """Lines about the driver, its devices, and a copy to the first device and back."""
    library, number = driver(), ctypes.c_int()
    if library is None:
        yield "no driver"
        return
    library.cuDriverGetVersion(ctypes.byref(number))
    yield f"driver of CUDA {number.value // 1000}.{number.value % 1000 // 10}"
    if code := library.cuInit(0):
        yield f"cuInit returned error {code}"
        return
    library.cuDeviceGetCount(ctypes.byref(number))
    for index in range(number.value):
        yield f"cuda:{index} {device_name(library, index)}".strip()
    try:
        copied = dl.tensor([1.0, 2.0]).to("cuda:0").cpu().tolist()
        yield "copies work" if copied == [1.0, 2.0] else f"a copy returned {copied}"
    except (BufferError, MemoryError, RuntimeError) as error:
        yield f"a copy failed: {error}"


def report() -> Iterator[tuple[str, str]]:
    """The lines of the report: a name, which may be empty, and a text."""
    yield "dlbridge", dl.__version__
    yield "installed", str(Path(dl.__file__).parent)
    yield "features", ", ".join(FEATURES)
    yield "Python", python()
    yield "system", system()
    yield "processor", processor()
    yield "huge pages", huge_pages()
    for number, line in enumerate(cuda()):
        yield "" if number else "CUDA", line
    for name in VARIABLES:
        if name in os.environ:
            yield name, os.environ[name]
    versions = {module: version_of(module) for module in LIBRARIES}
    for module, version in versions.items():
        if version is not None:
            yield module, version
    missing = [module for module, version in versions.items() if version is None]
    if missing:
        yield "not found", ", ".join(missing)


def main() -> int:
    """Prints the report."""
    for name, text in report():
        print(f"{name:<18}{text}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
