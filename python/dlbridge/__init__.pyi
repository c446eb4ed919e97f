"""One tensor buffer, many runtimes, no copies unless you ask.

A `Tensor` is handed to NumPy, PyTorch, JAX and every other library that speaks DLPack, and taken from them.
Names say what is copied: nothing, unless a docstring here says so.

Errors: `BufferError` for what cannot be shared (the data, its type or its device), `ValueError` and
`TypeError` for wrong arguments, `AttributeError` for objects that are no arrays, `MemoryError`.

Other threads of Python run while large copies are made (64 KiB and more), and copies of 1 MiB and more use
several threads of their own (`RAYON_NUM_THREADS` says how many). Who writes an array while others read it is,
as everywhere in Python, for its users to agree on.
"""

import builtins
from typing import Any, Final, Literal, SupportsIndex, TypeAlias, TypeVar, final

import numpy as _np
import torch as _torch

_Array = TypeVar("_Array")
_Device: TypeAlias = str | tuple[int, int] | _torch.device
_MemoryFormat: TypeAlias = Literal[
    "preserve_format", "contiguous_format", "channels_last", "channels_last_3d"
]

__version__: Final[str]

@final
class Tensor:
    """A strided buffer on one device, shared or owned.

    Made by `from_dlpack`, `from_numpy` and `tensor`. The memory is released when the last object that holds it is
    gone, whichever library's that is. `copy.copy` gives the same tensor, `copy.deepcopy` copies; pickled with
    protocol 5, the elements go out of band and are not copied.

    >>> import numpy as np, dlbridge as dl
    >>> array = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> tensor = dl.from_numpy(array)
    >>> tensor
    dlbridge.Tensor([[1.0, 2.0],
                     [3.0, 4.0]], dtype=float64, device=cpu)
    >>> array[0, 0] = 9.0
    >>> tensor.tolist()
    [[9.0, 2.0], [3.0, 4.0]]

    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
    def stride(self) -> tuple[int, ...]:
        """Steps between neighbours in each dimension, in elements; possibly negative or zero."""
    @property
    def ndim(self) -> int:
        """Number of dimensions."""
    def numel(self) -> int:
        """Number of elements."""
    @property
    def nbytes(self) -> int:
        """Bytes of all elements, gaps between them left out."""
    @property
    def dtype(self) -> str:
        """Element type by the name that NumPy and PyTorch use, e.g. 'float32'."""
    @property
    def device(self) -> str:
        """Where the memory is, e.g. 'cpu' or 'cuda:0'."""
    @property
    def readonly(self) -> bool:
        """Whether the memory may not be written."""
    def data_ptr(self) -> int:
        """Address of the first element; of no meaning when there are no elements."""
    def is_contiguous(self) -> bool:
        """Whether the elements lie one after the other in row-major order."""
    def numpy(self, *, force: bool = False) -> _np.ndarray[Any, Any]:
        """The elements as a NumPy array that shares the memory, read-only if the memory is.

        Negative strides are fine. Types that NumPy has only with the package ml_dtypes (bfloat16, ...) need it.
        With `force`, memory of another device is copied to the host first.

        Raises TypeError for memory of another device, and for types that NumPy has not.
        """
    def torch(self) -> _torch.Tensor:
        """The elements as a PyTorch tensor that shares the memory.

        Raises BufferError for read-only memory, which PyTorch would write, ValueError for negative strides, which
        it does not support, and TypeError for types that it has not. `clone().torch()` copies.
        """
    def tolist(self) -> Any:
        """The elements as nested lists of Python's numbers; of a tensor without dimensions, the number."""
    def item(self) -> builtins.bool | int | float | complex:
        """The only element as a number; ValueError when there are none or several."""
    def clone(self, *, memory_format: _MemoryFormat = "preserve_format") -> Tensor:
        """A copy in new memory that may be written, laid out as `torch.Tensor.clone` does.

        'preserve_format' keeps the order of the strides and closes gaps, 'contiguous_format' is row-major,
        'channels_last' and 'channels_last_3d' are for four and five dimensions. The memory is aligned to 256
        bytes, so that JAX shares it.
        """
    def contiguous(self) -> Tensor:
        """The tensor itself when its elements lie in row-major order; otherwise a copy that does."""
    def cpu(self) -> Tensor:
        """The tensor itself when it is on the host; otherwise a copy there, which PyTorch makes."""
    def cuda(self, index: SupportsIndex | None = None) -> Tensor:
        """The tensor itself when it is on a CUDA device (on that of the index, if one is given); otherwise a copy
        there, which PyTorch makes."""
    def to(self, device: _Device, *, copy: builtins.bool = False) -> Tensor:
        """The tensor itself when it is on that device; otherwise a copy there, which PyTorch makes. With
        `copy=True` a copy in any case."""
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: builtins.bool | None = None,
    ) -> Any:
        """Makes a DLPack capsule: version 1.3 if `max_version` is (1, 0) or higher, otherwise the older kind,
        which has no read-only memory. Copies with `copy=True`, and negative strides when `copy` is None.

        <https://data-apis.org/array-api/latest/API_specification/generated/array_api.array.__dlpack__.html>
        """
    def __dlpack_device__(self) -> tuple[int, int]:
        """Type and index of the device, as DLPack numbers them."""
    __dlpack_c_exchange_api__: Any
    def __array__(self, dtype: Any = None, copy: builtins.bool | None = None) -> _np.ndarray[Any, Any]: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __copy__(self) -> Tensor: ...
    def __deepcopy__(self, _memo: dict[int, Any], /) -> Tensor: ...
    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[Any, ...]: ...

def from_dlpack(x: Any, /, *, device: _Device | None = None, copy: builtins.bool | None = None) -> Tensor:
    """Shares the memory of any array.

    Takes anything with `__dlpack__`, old or new, with the buffer protocol (bytes, memoryview, array.array, mmap)
    or with `__array_interface__`, and DLPack capsules. Read-only memory stays read-only.

    With `device`, memory elsewhere is copied there, by the producer or by PyTorch. `copy=True` copies in any case,
    and `copy=False` raises ValueError where the memory cannot be shared.

    Raises BufferError for what cannot be shared, for example tensors that require gradient, elements of no DLPack
    type, or strides that are no multiple of the element's size.
    """

def from_numpy(array: _np.ndarray[Any, Any], /) -> Tensor:
    """Shares the memory of a NumPy array, read-only if the array is. Any strides are fine.

    Raises TypeError for anything but an array, and for element types that DLPack has not; ValueError for a byte
    order that is not the machine's.
    """

def tensor(x: Any, /) -> Tensor:
    """Copies any array that `from_dlpack` takes into new memory that may be written; the order of its strides is
    kept, and gaps are closed."""

def clone(x: _Array, /) -> _Array:
    """Copies any array into a new one of the same library; the order of its strides is kept, and gaps are closed.

    NumPy and PyTorch own the new memory. Other libraries share it with this one through their own `from_dlpack`;
    an object that has only the buffer protocol gives a memoryview, any other a Tensor.
    """

def contiguous(x: _Array, /) -> _Array:
    """The array itself when its elements lie in row-major order; otherwise a copy that does, in a new array of the
    same library, as `clone` makes it."""

def copyto(dst: Any, src: Any, /) -> None:
    """Copies the elements of one array into another of the same shape and element type, whatever their libraries
    and strides. Nothing between the elements of `dst` is touched.

    Raises ValueError for other shapes or types, for read-only memory, for memory that overlaps itself, and when
    both share memory.
    """
