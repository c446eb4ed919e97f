"""dlbridge shares tensors between NumPy, PyTorch, JAX and other libraries without copying them.

A `Tensor` shares memory with every library that supports DLPack, the buffer protocol or
`__array_interface__`. A function or method copies elements only where its docstring says so.

Errors: `BufferError` for data that cannot be shared because of its memory, type or device;
`ValueError` and `TypeError` for wrong arguments; `AttributeError` from `from_dlpack` for objects
that are not arrays; `MemoryError`. A transfer raises `BufferError` if the driver or the device is
missing, and `RuntimeError` if CUDA reports a failure.

Copies of 64 KiB and more release the GIL, so that other Python threads run. Copies of 4 MiB and
more use several threads, and so do copies of 256 KiB and more in a loop. The environment variable
`RAYON_NUM_THREADS` sets their number. dlbridge does not synchronize reads and writes of shared
memory: the program must.

The examples assume `import numpy as np, torch, dlbridge as dl`. The guide is docs/python.md in
the repository.

>>> array = np.array([[1.0, 2.0], [3.0, 4.0]])
>>> tensor = dl.from_numpy(array)
>>> tensor.torch()[0, 0] = 9.0
>>> array
array([[9., 2.],
       [3., 4.]])
"""

from ._collate import collate
from ._dlbridge import (
    DType,
    Tensor,
    __version__,
    cached_bytes,
    clone,
    contiguous,
    copyto,
    from_dlpack,
    from_numpy,
    set_cache_limit,
    tensor,
    trim,
)

__all__ = [
    "DType",
    "Tensor",
    "__version__",
    "cached_bytes",
    "clone",
    "collate",
    "contiguous",
    "copyto",
    "from_dlpack",
    "from_numpy",
    "set_cache_limit",
    "tensor",
    "trim",
]

for _function in (
    cached_bytes,
    clone,
    collate,
    contiguous,
    copyto,
    from_dlpack,
    from_numpy,
    set_cache_limit,
    tensor,
    trim,
):
    _function.__module__ = __name__
del _function
