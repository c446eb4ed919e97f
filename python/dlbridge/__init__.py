"""One tensor buffer, many runtimes, no copies unless you ask."""

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
