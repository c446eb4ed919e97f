"""One tensor buffer, many runtimes, no copies unless you ask.

A `Tensor` shares memory with NumPy, PyTorch, JAX and every other library that speaks DLPack, in
both directions. Nothing is copied unless a docstring says so.

Errors: `BufferError` for what cannot be shared (the data, its type or its device), `ValueError` and
`TypeError` for wrong arguments, `AttributeError` from `from_dlpack` for objects that are not
arrays, `MemoryError`. Without CUDA, or without the device, transfers raise `BufferError`; where
CUDA fails, `RuntimeError`.

Other threads of Python run while large copies are made (64 KiB and more), and copies of 1 MiB and
more use several threads of their own (`RAYON_NUM_THREADS` says how many). Reads and writes of
shared memory are not synchronized; that is up to the program.
"""

from ._dlbridge import (
    Tensor,
    __version__,
    clone,
    contiguous,
    copyto,
    from_dlpack,
    from_numpy,
    tensor,
)

__all__ = [
    "Tensor",
    "__version__",
    "clone",
    "contiguous",
    "copyto",
    "from_dlpack",
    "from_numpy",
    "tensor",
]

for _function in (clone, contiguous, copyto, from_dlpack, from_numpy, tensor):
    _function.__module__ = __name__
del _function
