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

import builtins
from array import array
from collections.abc import Iterator
from typing import Any, Final, Literal, SupportsIndex, TypeAlias, TypeVar, final, overload

import numpy as _np
import torch as _torch

_Array = TypeVar("_Array")
_Buffer: TypeAlias = bytes | bytearray | memoryview | array[Any]
_Device: TypeAlias = str | tuple[int, int] | _torch.device
_MemoryFormat: TypeAlias = (
    Literal["preserve_format", "contiguous_format", "channels_last", "channels_last_3d"]
    | _torch.memory_format
)

__version__: Final[str]

@final
class Tensor:
    """A strided buffer on one device, shared or owned.

    Made by `from_dlpack`, `from_numpy` and `tensor`. The memory is released when the last object
    that shares it is gone, of whichever library.

    Tensors compare and hash by identity, and have no arithmetic and no indexing: use `numpy()` or
    `torch()` for that, which cost nothing. Iteration gives what `tolist()` gives, and `len(t)` is
    the size of the first dimension, so that tables take a tensor as a column of its values. One of
    a single element converts to a number, as `item()` does. `copy.copy` gives the same tensor, `copy.deepcopy` copies. Pickled
    with protocol 5, the elements go out of band and are not copied.

    `bytes(t)` gives the bytes of all elements in row-major order, of every type. `memoryview(t)`,
    and with it `bytearray(t)`, has no elements of bfloat16 and other types without a format.

    The garbage collector finds a cycle through a tensor and the array that it was made from, if
    nothing else holds that memory.

    `torch.asarray(t)` and `torch.frombuffer(t)` silently lose shape and element type, as they do
    with every buffer: use `t.torch()`, `torch.from_dlpack(t)` or `torch.as_tensor(t)`.

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
    @overload
    def stride(self, dim: None = None) -> tuple[int, ...]: ...
    @overload
    def stride(self, dim: int) -> int:
        """Strides of all dimensions, or of one, in elements; they may be negative or zero."""
    @property
    def ndim(self) -> int:
        """Number of dimensions."""
    def numel(self) -> int:
        """Number of elements."""
    @property
    def nbytes(self) -> int:
        """Size of all elements in bytes, without the gaps between them."""
    @property
    def dtype(self) -> str:
        """Element type, by the name that NumPy and PyTorch use: 'float32' for example.

        A `str`, which does not equal either library's object: `numpy.dtype(t.dtype)` and
        `getattr(torch, t.dtype)` are those.
        """
    @property
    def device(self) -> str:
        """Where the memory is: 'cpu' or 'cuda:0' for example.

        A `str`, which `torch.device` takes.
        """
    @property
    def readonly(self) -> bool:
        """Whether the memory may not be written."""
    def data_ptr(self) -> int:
        """Address of the first element; it has no meaning if there are no elements."""
    def is_contiguous(self) -> bool:
        """Whether the elements lie one after the other in row-major order."""
    def numpy(self, *, force: bool = False) -> _np.ndarray[Any, Any]:
        """The elements as a NumPy array that shares the memory, read-only if the memory is.

        Negative strides are fine. Types that NumPy has only with the package ml_dtypes (bfloat16
        for example) need it. With `force`, memory of another device is copied to the host first.

        Raises TypeError for memory of another device, and for types that NumPy does not have.
        """
    def torch(self) -> _torch.Tensor:
        """The elements as a PyTorch tensor that shares the memory.

        Raises BufferError for read-only memory, which PyTorch would write, ValueError for negative
        strides, which it does not support, and TypeError for types that it does not have.
        `clone().torch()` copies.
        """
    def tolist(self) -> Any:
        """The elements as nested lists of numbers; without dimensions, the number itself.

        Raises TypeError for memory of another device, and for types that Python does not have.
        """
    def item(self) -> builtins.bool | int | float | complex:
        """The only element, as a number.

        Raises ValueError when there are none or several, and TypeError as `tolist` does.
        """
    def clone(self, *, memory_format: _MemoryFormat = "preserve_format") -> Tensor:
        """A copy in new memory that may be written, laid out as `torch.Tensor.clone` does it.

        'preserve_format' keeps the order of the strides and closes gaps, 'contiguous_format' is
        row-major, 'channels_last' and 'channels_last_3d' are for four and five dimensions. The
        memory is aligned to 256 bytes, so that JAX can share it.

        Memory of a CUDA device is copied there. Raises ValueError for a format that does not fit,
        and BufferError for devices that can't be reached from here.
        """
    def contiguous(self) -> Tensor:
        """The tensor itself if its elements lie in row-major order; otherwise a copy that does."""
    def cpu(self) -> Tensor:
        """The tensor itself when it is on the host; otherwise a copy there.

        The copy is complete when this returns.

        Raises BufferError for devices that can't be reached from here, and RuntimeError where CUDA
        fails.
        """
    def cuda(self, device: int | _Device | None = None) -> Tensor:
        """The tensor itself when it is on that CUDA device; otherwise a copy there.

        Without `device`, it may be on any CUDA device, and a copy is on the current one. The copy
        is ready on the device's legacy default stream, and is made ready on the stream that a
        consumer passes to `__dlpack__(stream=...)`. Raises BufferError where there is no CUDA, and
        RuntimeError where CUDA fails.
        """
    def to(self, device: _Device, *, copy: builtins.bool = False) -> Tensor:
        """The tensor itself when it is on that device; otherwise a copy there.

        The copy is as `cpu` and `cuda` make it. With `copy=True` it is always a copy. Raises
        ValueError for names other than 'cpu', 'cuda' and 'cuda:N', and BufferError for other
        devices of DLPack.
        """
    def pin_memory(self) -> Tensor:
        """The tensor itself when it is in page-locked host memory; otherwise a copy there.

        CUDA devices read and write such memory directly, so that copies to and from it are faster.
        It is expensive to allocate: allocate little of it and use it again, with `copyto` for
        example. Raises BufferError where there is no CUDA.
        """
    def is_pinned(self) -> builtins.bool:
        """Whether the memory is page-locked host memory, whichever library locked it."""
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Describes CUDA memory for Numba and others; an AttributeError for memory elsewhere.

        The memory is ready on the legacy default stream. The consumer must keep the tensor as long
        as it uses the memory.

        <https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html>
        """
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: builtins.bool | None = None,
    ) -> Any:
        """Makes a DLPack capsule, which shares the memory.

        Of version 1.3 if `max_version` is (1, 0) or higher, otherwise of the older type, which
        can't say that memory is read-only. Copies with `copy=True`, and negative strides when
        `copy` is None.

        `stream` is the stream on which the consumer works: a number (1 and 2 are CUDA's default
        streams) or an object with `__cuda_stream__`. The memory is ready on that stream, and is not
        used again before the work is done that is on the stream when the consumer releases the
        struct. None and -1 mean the legacy default stream.

        Raises BufferError for what can't be exported like this, and ValueError for a stream that
        the device does not have.

        <https://data-apis.org/array-api/latest/API_specification/generated/array_api.array.__dlpack__.html>
        """
    @property
    def __array_interface__(self) -> dict[str, Any]:
        """Describes host memory for NumPy and others, read-only if the memory is.

        An AttributeError for memory elsewhere, and for types that NumPy does not have. The consumer
        must keep the tensor as long as it uses the memory, as NumPy does.

        <https://numpy.org/doc/stable/reference/arrays.interface.html>
        """
    def __dlpack_device__(self) -> tuple[int, int]:
        """Type and index of the device, as DLPack numbers them."""
    __dlpack_c_exchange_api__: Any
    def __array__(
        self, dtype: Any = None, copy: builtins.bool | None = None
    ) -> _np.ndarray[Any, Any]:
        """What `numpy.asarray` and `numpy.array` call if the buffer protocol is not enough.

        Shares the memory, unless `copy` is True or another `dtype` needs a copy. Raises ValueError
        where `copy` is False and a copy is needed.
        """
    def __jax_array__(self) -> Any:
        """What JAX calls where it takes any array, in `jax.numpy.asarray` for example."""
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __bool__(self) -> builtins.bool: ...
    def __bytes__(self) -> bytes: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __int__(self) -> int: ...
    def __float__(self) -> float: ...
    def __complex__(self) -> complex: ...
    def __index__(self) -> int: ...
    def __copy__(self) -> Tensor: ...
    def __deepcopy__(self, memo: dict[int, Any], /) -> Tensor: ...
    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[Any, ...]: ...

def from_dlpack(
    x: Any, /, *, device: _Device | None = None, copy: builtins.bool | None = None
) -> Tensor:
    """Shares the memory of any array.

    Takes anything with `__dlpack__`, old or new, with the buffer protocol (bytes, memoryview,
    array.array, mmap), with `__array_interface__` or `__cuda_array_interface__`, and DLPack
    capsules. Read-only memory stays read-only.

    With `device`, memory elsewhere is copied there, by the producer or by dlbridge. `copy=True`
    copies in any case, and `copy=False` raises ValueError where sharing would need a copy.

    A NumPy scalar, for example `numpy.float32(1)`, has no memory that can be shared, so it is
    copied.

    Raises BufferError for what cannot be shared, for example tensors that require gradient or reach
    beyond their storage, elements of no DLPack type or of another byte order, or strides that are
    no multiple of the element's size, and AttributeError for objects that are not arrays. An
    exception that the producer raises is passed on. `tensor` and `clone` copy elements of another
    byte order and of any strides.

    PyTorch can move the memory of a tensor after it was shared. BufferError is raised when the
    Tensor is used afterwards; arrays that were made from it before then see memory that is gone, or
    that PyTorch does not use any more.
    """

def from_numpy(array: _np.ndarray[Any, Any], /) -> Tensor:
    """Shares the memory of a NumPy array, read-only if the array is.

    Strides may be negative or zero. An array over a buffer that can be released, such as
    `numpy.ndarray(shape, buffer=shared_memory.buf)`, exports the buffer as long as the tensor
    lives, so that closing or resizing it raises BufferError. An array whose buffer was released
    before is refused with BufferError.

    Raises TypeError for anything but an array, and for element types that DLPack does not have; ValueError for strides that are no multiple of the element's
    size, and for a byte order that is not the machine's; BufferError for a masked array with masked
    elements.
    """

def tensor(x: Any, /) -> Tensor:
    """Copies any array that `from_dlpack` takes into new memory that may be written.

    NumPy arrays, buffers and array interfaces may also have elements of another byte order than the
    machine's (the copy has the machine's), and strides that are no multiple of the element's size,
    as fields of packed records have. The order of the strides is kept, and gaps are closed; memory of
    a CUDA device is copied there. A NumPy scalar becomes a tensor without dimensions.

    Raises TypeError for objects that are not arrays, lists among them, and BufferError as
    `from_dlpack` does.
    """

@overload
def clone(x: _Buffer, /) -> memoryview: ...
@overload
def clone(x: _Array, /) -> _Array:
    """Copies any array into a new one of the same library.

    The order of the strides is kept, and gaps are closed. NumPy and PyTorch own the new memory; the
    copy of an array of a derived class is a plain array. NumPy arrays may have the byte order and
    the strides that `tensor` takes; their copies have the machine's byte order. Other libraries
    share the memory with dlbridge through their own `from_dlpack`. The copy of an object that has
    only the buffer protocol is a memoryview, that of any other object a Tensor.

    Raises BufferError and AttributeError as `from_dlpack` does.
    """

@overload
def contiguous(x: _Buffer, /) -> Any: ...
@overload
def contiguous(x: _Array, /) -> _Array:
    """The array itself when its elements lie in row-major order; otherwise a copy that does.

    The copy is a new array of the same library, as `clone` makes it.
    """

def copyto(dst: Any, src: Any, /) -> None:
    """Copies the elements of one array into another of the same shape and element type.

    The arrays may be of any libraries, have any strides, share memory, and be on different devices;
    `src` may be anything that `tensor` takes.
    Nothing is broadcast or cast, and no byte between the elements of `dst` is written. A copy to a
    CUDA device is complete in the order of its legacy default stream.

    Raises ValueError for other shapes or types, for read-only memory, and for a `dst` whose
    elements share memory.
    """
