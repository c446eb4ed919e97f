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

import builtins
from array import array
from collections.abc import Iterator
from typing import (
    Any,
    Final,
    Literal,
    Never,
    Self,
    SupportsIndex,
    TypeAlias,
    TypeVar,
    final,
    overload,
)

import numpy as _np
import torch as _torch

_Array = TypeVar("_Array")
_Buffer: TypeAlias = bytes | bytearray | memoryview | array[Any]
_DType: TypeAlias = str | _np.dtype[Any] | _torch.dtype | type[Any]
_Device: TypeAlias = str | tuple[int, int] | _torch.device
_MemoryFormat: TypeAlias = (
    Literal["preserve_format", "contiguous_format", "channels_last", "channels_last_3d"]
    | _torch.memory_format
)

__version__: Final[str]

@final
class DType(str):
    """An element type: a `str`, which also equals the types of NumPy, PyTorch and JAX.

    `Tensor.dtype` is a DType. `dtype` is a name such as 'float32', or an object such as
    `torch.float32`, `numpy.float32`, `numpy.dtype('float32')` or `float`, which NumPy takes as
    float64. A type equals its name and the objects of all libraries; `numpy.dtype` objects of
    another byte order are not equal.

    The hash is that of the name. So a set or dict whose keys are `torch.float32` or `numpy.float32`
    does not find a DType: look for `getattr(torch, dtype)` or `numpy.dtype(dtype)`.

    Pickles contain a reference to this class. `torch.load` accepts it only after
    `torch.serialization.add_safe_globals([dlbridge.DType])`; `str(dtype)` is a plain `str`.

    Raises TypeError if `dtype` is not an element type that DLPack has.

    >>> dtype = dl.DType(torch.float32)
    >>> dtype, dtype == np.float32, dtype == torch.float32, dtype == torch.float64
    ('float32', True, True, False)
    >>> {"float32": 4}[dtype]
    4
    """

    def __new__(cls, dtype: _DType, /) -> Self: ...

@final
class Tensor:
    """A strided buffer on one device, whose memory may be shared with other libraries.

    `from_dlpack`, `from_numpy` and `tensor` make a Tensor. The memory is released when the last
    object that shares it is released, in whichever library that object is.

    A Tensor has no arithmetic and no indexing: use `numpy()` or `torch()`, which share its memory.
    Tensors compare and hash by identity. `len(t)` is the size of the first dimension, and iteration
    gives the items of `tolist()`. A Tensor of one element converts to a number, as `item()` does.
    `copy.copy(t)` returns `t`, and `copy.deepcopy(t)` copies the elements. With pickle protocol 5
    and a `buffer_callback`, the elements are an out-of-band buffer and are not copied.

    `bytes(t)` copies the bytes of all elements in row-major order, whatever their type.
    `memoryview(t)` and `bytearray(t)` refuse element types for which the buffer protocol has no
    format, for example bfloat16.

    The garbage collector finds a cycle through a Tensor and the array that it was made from if
    nothing else holds that memory.

    `torch.asarray(t)` silently gives wrong numbers, because PyTorch reads the bytes of `t` without
    its shape and element type; `torch.frombuffer(t, dtype=...)` loses the shape. Use `t.torch()`,
    `torch.from_dlpack(t)` or `torch.as_tensor(t)`.

    >>> array = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> tensor = dl.from_numpy(array)
    >>> tensor
    dlbridge.Tensor([[1.0, 2.0],
                     [3.0, 4.0]], dtype=float64, device=cpu)
    >>> array[0, 0] = 9.0
    >>> tensor.tolist()
    [[9.0, 2.0], [3.0, 4.0]]
    >>> len(tensor), bytes(tensor) == array.tobytes()
    (2, True)
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions.

        >>> dl.tensor(np.zeros((2, 3))).shape
        (2, 3)
        """
    @overload
    def stride(self, dim: None = None) -> tuple[int, ...]: ...
    @overload
    def stride(self, dim: int) -> int:
        """Strides of all dimensions, or of dimension `dim`, in elements.

        A stride may be negative or zero. Raises IndexError if there is no dimension `dim`.

        >>> tensor = dl.from_numpy(np.zeros((2, 3))[::-1])
        >>> tensor.stride(), tensor.stride(0)
        ((-3, 1), -3)
        """
    @property
    def ndim(self) -> int:
        """Number of dimensions.

        >>> dl.tensor(np.zeros((2, 3))).ndim
        2
        """
    def numel(self) -> int:
        """Number of elements.

        >>> dl.tensor(np.zeros((2, 3))).numel()
        6
        """
    @property
    def nbytes(self) -> int:
        """Size of all elements in bytes, without the gaps between them.

        >>> dl.from_numpy(np.zeros(10, np.float32)[::2]).nbytes
        20
        """
    @property
    def dtype(self) -> DType:
        """The element type: a `str`, which also equals the types of NumPy, PyTorch and JAX.

        The text is the name as NumPy and PyTorch spell it. `numpy.dtype(t.dtype)` and
        `getattr(torch, t.dtype)` give the objects of these libraries. The hash is that of the text,
        so sets and dicts find a `str`, but not `torch.float32`.

        >>> tensor = dl.from_dlpack(torch.zeros(3))
        >>> tensor.dtype, np.dtype(tensor.dtype), getattr(torch, tensor.dtype)
        ('float32', dtype('float32'), torch.float32)
        >>> tensor.dtype == "float32", tensor.dtype == np.float32, tensor.dtype == torch.float32
        (True, True, True)
        """
    @property
    def device(self) -> str:
        """Name of the device that the memory is on, for example 'cpu' or 'cuda:0'.

        It is a `str`, which `torch.device` takes.

        >>> tensor = dl.from_dlpack(torch.zeros(3))
        >>> tensor.device, torch.device(tensor.device)
        ('cpu', device(type='cpu'))
        """
    @property
    def readonly(self) -> bool:
        """Whether the memory must not be written.

        >>> dl.from_dlpack(b"abc").readonly, dl.from_dlpack(bytearray(b"abc")).readonly
        (True, False)
        """
    def data_ptr(self) -> int:
        """Address of the first element; an arbitrary number if there are no elements.

        Raises BufferError if PyTorch moved the memory since it was shared.

        >>> array = np.arange(6.0)
        >>> dl.from_numpy(array[1:]).data_ptr() - array.ctypes.data
        8
        """
    def is_contiguous(self) -> bool:
        """Whether the elements lie one after the other in row-major order.

        >>> array = np.zeros((2, 3))
        >>> dl.from_numpy(array).is_contiguous(), dl.from_numpy(array.T).is_contiguous()
        (True, False)
        """
    def numpy(self, *, force: bool = False) -> _np.ndarray[Any, Any]:
        """Returns a NumPy array that shares the memory; the array is read-only if the memory is.

        NumPy has some types, for example bfloat16, only if the package ml_dtypes is installed. With
        `force=True`, memory of another device is copied to the host first.

        Raises TypeError for memory of another device, and for types that NumPy does not have.

        >>> source = torch.zeros(2)
        >>> dl.from_dlpack(source).numpy()[0] = 5.0
        >>> source
        tensor([5., 0.])
        """
    def torch(self) -> _torch.Tensor:
        """Returns a PyTorch tensor that shares the memory.

        Raises BufferError for read-only memory, because PyTorch would allow writes to it;
        ValueError for negative strides, which PyTorch does not support; and TypeError for types
        that PyTorch does not have. `clone().torch()` copies.

        >>> array = np.zeros(2)
        >>> dl.from_numpy(array).torch()[0] = 5.0
        >>> array
        array([5., 0.])
        """
    def tolist(self) -> Any:
        """Returns the elements as nested lists of numbers; without dimensions, one number.

        Raises TypeError for memory of another device, and for types that Python has no numbers for.

        >>> dl.tensor(np.arange(4).reshape(2, 2)).tolist()
        [[0, 1], [2, 3]]
        """
    def item(self) -> builtins.bool | int | float | complex:
        """Returns the only element as a number.

        Raises ValueError if the tensor does not have exactly one element, and TypeError as `tolist`
        does.

        >>> dl.tensor(np.array([[2.5]])).item()
        2.5
        """
    def tobytes(self) -> bytes:
        """Returns a copy of the bytes of all elements in row-major order, as `bytes(t)` does.

        Raises BufferError for memory of another device.

        >>> dl.tensor([104, 105], dtype="uint8").tobytes()
        b'hi'
        """
    @property
    def size(self) -> Never:
        """Raises AttributeError: in NumPy, `size` is the number of elements, in PyTorch a method."""
    def clone(self, *, memory_format: _MemoryFormat = "preserve_format") -> Tensor:
        """Returns a copy in new, writable memory, laid out as `torch.Tensor.clone` lays it out.

        'preserve_format' keeps the order of the strides and closes gaps, 'contiguous_format' is
        row-major, 'channels_last' and 'channels_last_3d' are for four and five dimensions. The
        memory is aligned to 256 bytes, so that JAX can share it. Memory of a CUDA device is copied
        on that device.

        Raises ValueError if the format does not fit the number of dimensions, and BufferError for
        devices that dlbridge cannot copy from.

        >>> tensor = dl.from_numpy(np.zeros((2, 3)).T)
        >>> tensor.clone().stride(), tensor.clone(memory_format="contiguous_format").stride()
        ((1, 3), (2, 1))
        """
    def contiguous(self, *, memory_format: _MemoryFormat = "contiguous_format") -> Tensor:
        """Returns this tensor if its elements lie in this order, and a copy in this order otherwise.

        The formats are those of `clone`, except for 'preserve_format'; 'contiguous_format' is
        row-major.

        Raises ValueError if the format does not fit the number of dimensions.

        >>> tensor = dl.from_numpy(np.zeros((2, 3)))
        >>> tensor.contiguous() is tensor, dl.from_numpy(np.zeros((2, 3)).T).contiguous().stride()
        (True, (2, 1))
        """
    def cpu(self) -> Tensor:
        """Returns this tensor if it is on the host, and a copy on the host otherwise.

        The copy is complete when this method returns.

        Raises BufferError for devices that dlbridge cannot copy from, and RuntimeError if CUDA
        reports a failure.

        >>> tensor = dl.tensor(np.zeros(3))
        >>> tensor.cpu() is tensor
        True
        """
    def cuda(self, device: int | _Device | None = None) -> Tensor:
        """Returns this tensor if it is on CUDA device `device`, and a copy there otherwise.

        If `device` is None, the tensor may be on any CUDA device, and a copy is made on the current
        one. The copy is ready on the device's legacy default stream; the export to a consumer that
        passes another stream to `__dlpack__(stream=...)` makes that stream wait for it.

        Raises BufferError if the CUDA driver or the device is missing, and RuntimeError if CUDA
        reports a failure.

        >>> moved = dl.tensor(np.arange(3)).cuda()
        >>> moved.device, moved.cpu().tolist()
        ('cuda:0', [0, 1, 2])
        """
    def to(self, device: _Device, *, copy: builtins.bool = False) -> Tensor:
        """Returns this tensor if it is on `device`, and a copy there otherwise.

        `cpu` and `cuda` describe the copy. With `copy=True`, the result is always a copy. The
        element type does not change: `t.torch().to(torch.float16)` and
        `t.numpy().astype("float16")` cast.

        Raises ValueError for names other than 'cpu', 'cuda' and 'cuda:N', TypeError for element
        types, and BufferError for other devices of DLPack.

        >>> tensor = dl.tensor(np.zeros(3))
        >>> tensor.to("cpu") is tensor, tensor.to("cpu", copy=True) is tensor
        (True, False)
        """
    def pin_memory(self) -> Tensor:
        """Returns this tensor if it is in page-locked host memory, and a copy there otherwise.

        CUDA devices access such memory directly, so that copies between it and a device are faster.
        Its allocation is expensive: allocate it once and fill it again, for example with `copyto`.

        Raises BufferError if the CUDA driver or a device is missing.

        >>> pinned = dl.tensor(np.arange(3)).pin_memory()
        >>> pinned.device, pinned.is_pinned(), pinned.tolist()
        ('cpu', True, [0, 1, 2])
        """
    def is_pinned(self) -> builtins.bool:
        """Whether the memory is page-locked host memory, whichever library locked it.

        >>> dl.tensor(np.zeros(3)).is_pinned()
        False
        """
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Description of CUDA memory for Numba and others; AttributeError for memory elsewhere.

        The memory is ready on the legacy default stream. The consumer must keep the tensor as long
        as it uses the memory.

        <https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html>

        >>> moved = dl.tensor(np.zeros((2, 3))).cuda()
        >>> moved.__cuda_array_interface__["shape"]
        (2, 3)
        >>> hasattr(moved.cpu(), "__cuda_array_interface__")
        False
        """
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: builtins.bool | None = None,
    ) -> Any:
        """Returns a DLPack capsule that shares the memory.

        The capsule holds a versioned struct (DLPack 1.3) if `max_version` is (1, 0) or higher, and
        a legacy struct otherwise. A legacy struct cannot mark memory as read-only. `copy=True`
        copies the elements; so does `copy=None` if a stride is negative.

        `stream` is the stream on which the consumer works: a number (1 and 2 are CUDA's default
        streams) or an object with `__cuda_stream__`; None and -1 mean the legacy default stream.
        The memory is ready on that stream. dlbridge does not use it for other work until the work
        that is on the stream when the consumer releases the struct is done.

        Raises BufferError for a tensor that cannot be exported with these arguments, and ValueError
        for a stream that the device does not have.

        <https://data-apis.org/array-api/latest/API_specification/generated/array_api.array.__dlpack__.html>

        >>> array = np.from_dlpack(dl.from_dlpack(torch.ones(2)))
        >>> array
        array([1., 1.], dtype=float32)
        """
    @property
    def __array_interface__(self) -> dict[str, Any]:
        """Description of host memory for NumPy and others, read-only if the memory is.

        The attribute raises AttributeError for memory elsewhere, and for types that NumPy does not
        have. The consumer must keep the tensor as long as it uses the memory, as NumPy does.

        <https://numpy.org/doc/stable/reference/arrays.interface.html>

        >>> dl.from_dlpack(b"abc").__array_interface__["typestr"]
        '|u1'
        """
    def __dlpack_device__(self) -> tuple[int, int]:
        """Returns type and index of the device, in DLPack's numbers.

        >>> dl.tensor(np.zeros(3)).__dlpack_device__()
        (1, 0)
        """
    __dlpack_c_exchange_api__: Any
    def __array__(
        self, dtype: Any = None, copy: builtins.bool | None = None
    ) -> _np.ndarray[Any, Any]:
        """Called by `numpy.asarray` and `numpy.array` if the buffer protocol is not enough.

        The array shares the memory, unless `copy` is True or another `dtype` needs a copy. Raises
        ValueError if `copy` is False and a copy is needed.

        >>> np.asarray(dl.from_dlpack(torch.ones(2)), dtype=np.float64)
        array([1., 1.])
        """
    def __jax_array__(self) -> Any:
        """Called by JAX functions that take any array, for example `jax.numpy.asarray`.

        >>> import jax.numpy as jnp
        >>> jnp.asarray(dl.tensor(np.arange(3, dtype=np.float32)))
        Array([0., 1., 2.], dtype=float32)
        """
    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, /
    ) -> Any:
        """Called by functions of PyTorch that get a Tensor: they share its memory, as `torch()` does.

        >>> torch.stack([dl.tensor([1, 2]), dl.tensor([3, 4])])
        tensor([[1, 2],
                [3, 4]])
        """
    def __format__(self, format_spec: str, /) -> str:
        """Formats the only element; without a format, gives what `str` gives."""
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
    """Returns a Tensor that shares the memory of `x`, an array of any library.

    `x` may be an object with `__dlpack__`, of any DLPack version; with the buffer protocol (bytes,
    memoryview, array.array, mmap); with `__array_interface__` or `__cuda_array_interface__`; or a
    DLPack capsule. Read-only memory stays read-only.

    If `device` is given and the memory is elsewhere, the producer or dlbridge copies it there.
    `copy=True` always copies. `copy=False` raises ValueError if a copy is needed. A NumPy scalar,
    for example `numpy.float32(1)`, is copied, because its memory cannot be shared.

    Raises BufferError for data that cannot be shared: for example a PyTorch tensor that requires
    gradient or reaches beyond its storage, elements of a type that DLPack does not have or of
    another byte order, or strides that are no multiple of the element size. `tensor` and `clone`
    copy elements of another byte order and of any strides. Raises AttributeError for objects that
    are not arrays. Exceptions of the producer are passed on.

    PyTorch can move the memory of a tensor after it was shared. Each later use of the Tensor raises
    BufferError. Arrays that were made from the Tensor before the move are not checked: they keep
    the old address, where the memory may be freed.

    >>> source = torch.zeros(2, 3)
    >>> tensor = dl.from_dlpack(source.t())
    >>> tensor.shape, tensor.stride(), tensor.data_ptr() == source.data_ptr()
    ((3, 2), (1, 3), True)
    """

def from_numpy(array: _np.ndarray[Any, Any], /) -> Tensor:
    """Returns a Tensor that shares the memory of a NumPy array, read-only if the array is.

    Strides may be negative or zero. An array over a buffer that can be released, such as
    `numpy.ndarray(shape, buffer=shared_memory.buf)`, exports the buffer as long as the tensor
    lives, so that closing or resizing it raises BufferError. If the buffer was released before,
    `from_numpy` raises BufferError.

    Raises TypeError if `array` is not a NumPy array, and for element types that DLPack does not
    have; ValueError for strides that are no multiple of the element size, and for a byte order that
    is not the machine's; and BufferError for a masked array with masked elements.

    >>> array = np.arange(3.0)
    >>> tensor = dl.from_numpy(array[::-1])
    >>> array[0] = 7.0
    >>> tensor.tolist()
    [2.0, 1.0, 7.0]
    """

def tensor(x: Any, /, *, dtype: _DType | None = None, device: _Device | None = None) -> Tensor:
    """Copies `x` into new, writable memory: an array, a number, or nested lists and tuples of numbers.

    An array may be any that `from_dlpack` takes. NumPy arrays, buffers and objects with an array
    interface may have another byte order than the machine's (the copy has the machine's), and
    strides that are no multiple of the element size, as fields of packed records have. The copy
    keeps the order of the strides and closes gaps. A NumPy scalar becomes a tensor without
    dimensions. The element type of an array does not change: `dtype` must be its own.

    Numbers get the type that NumPy gives them, which holds them exactly: bool, int64, float64 or
    complex128. (PyTorch gives float32 and complex64.) A mixture gets the last of its types in this
    order, no numbers get float64, and NumPy scalars that all have one type keep it. With `dtype`,
    numbers are converted: floats are rounded, and integers must be in range.

    `dtype` is a name such as 'float32', or a type of NumPy, PyTorch or Python. `device` is 'cpu',
    'cuda', 'cuda:N' or a `torch.device`; without it, the copy is on the device of `x`.

    Raises ValueError for ragged lists, and for lists that are nested more than 64 deep;
    OverflowError for numbers that are out of range; TypeError for objects that are not arrays or
    numbers, for an array of another type than `dtype`, and for numbers that `dtype` has not, such
    as 1.5 in int64; and BufferError as `from_dlpack` does.

    >>> dl.tensor([[1, 2], [3, 4]], dtype=torch.float32)
    dlbridge.Tensor([[1.0, 2.0],
                     [3.0, 4.0]], dtype=float32, device=cpu)
    >>> array = np.array([1, 2], dtype=">i4")
    >>> tensor = dl.tensor(array)
    >>> tensor.dtype, tensor.tolist(), tensor.data_ptr() == array.ctypes.data
    ('int32', [1, 2], False)
    """

@overload
def clone(x: _Buffer, /, *, memory_format: _MemoryFormat = "preserve_format") -> memoryview: ...
@overload
def clone(x: _Array, /, *, memory_format: _MemoryFormat = "preserve_format") -> _Array:
    """Returns a copy of `x` as a new array of the same library.

    The copy keeps the order of the strides and closes gaps; `memory_format` is another order, as
    for `Tensor.clone`. NumPy and PyTorch own the memory of the copy. The copy of an array of a
    derived class is a plain array. NumPy arrays may have the byte order and the strides that
    `tensor` takes; their copies have the machine's byte order. An array of another library is made
    by that library's own `from_dlpack`, from memory of dlbridge. The copy of an object that has
    only the buffer protocol is a memoryview, and the copy of any other object is a Tensor.

    Raises BufferError as `from_dlpack` does, TypeError for objects that are not arrays, and
    ValueError if the format does not fit the number of dimensions.

    >>> dl.clone(np.arange(3))
    array([0, 1, 2])
    >>> dl.clone(torch.arange(3))
    tensor([0, 1, 2])
    >>> dl.clone(np.zeros((2, 3, 4, 5), np.uint8), memory_format="channels_last").strides
    (60, 1, 15, 3)
    """

@overload
def contiguous(x: _Buffer, /, *, memory_format: _MemoryFormat = "contiguous_format") -> Any: ...
@overload
def contiguous(x: _Array, /, *, memory_format: _MemoryFormat = "contiguous_format") -> _Array:
    """Returns `x` if its elements lie in row-major order, and a row-major copy otherwise.

    `memory_format` is another order: 'channels_last' for four dimensions, 'channels_last_3d' for
    five. The copy is a new array of the same library, as `clone` makes it, and the errors are the
    same.

    >>> array = np.zeros((2, 3))
    >>> dl.contiguous(array) is array, dl.contiguous(array.T).flags.c_contiguous
    (True, True)
    >>> images = torch.zeros(2, 3, 4, 5)
    >>> dl.contiguous(images, memory_format=torch.channels_last).stride()
    (60, 1, 15, 3)
    """

def collate(batch: list[Any], /) -> Any:
    """Joins samples to a batch as PyTorch's `default_collate` does, and also takes Tensors.

    It is for `torch.utils.data.DataLoader(..., collate_fn=dlbridge.collate)`. Samples may be what
    `default_collate` takes, Tensors, and tuples, lists and dicts of these. Tensors of equal shape
    become one `torch.Tensor` with a new first dimension: PyTorch copies their elements once, in a
    worker process into shared memory. Read-only memory and negative strides cost a second copy.

    PyTorch is imported when this function is called. Nothing is registered in PyTorch, so
    `default_collate` itself still refuses Tensors.

    Raises the exceptions of PyTorch, for example RuntimeError for different shapes; TypeError for
    element types that PyTorch does not have; and ImportError if there is no PyTorch.

    >>> samples = [(dl.tensor([1, 2]), "a"), (dl.tensor([3, 4]), "b")]
    >>> dl.collate(samples)
    [tensor([[1, 2],
            [3, 4]]), ('a', 'b')]
    """

def copyto(dst: Any, src: Any, /) -> None:
    """Copies the elements of `src` into `dst`, an array of the same shape and element type.

    The arrays may be of different libraries, have any strides, share memory, and be on different
    devices. `src` may be any array that `tensor` takes. Elements are neither broadcast nor cast,
    and the bytes between the elements of `dst` are not written. A copy to a CUDA device is complete
    in the order of its legacy default stream.

    Raises ValueError if shapes or element types differ, if `dst` is read-only or a NumPy scalar,
    and if elements of `dst` share memory; TypeError if an argument is not an array; and BufferError
    if an argument cannot be shared: for example a PyTorch tensor that requires gradient, is sparse,
    or was moved by PyTorch. The text names the argument. MemoryError, RuntimeError and exceptions
    of a producer are passed on.

    >>> target = torch.zeros(3, 2)
    >>> dl.copyto(target, np.arange(6, dtype=np.float32).reshape(2, 3).T)
    >>> target
    tensor([[0., 3.],
            [1., 4.],
            [2., 5.]])
    """

def trim() -> int:
    """Gives all memory that is cached for later copies back, and returns its size in bytes.

    Memory of 2 MiB or more that dlbridge allocated for a copy is cached when its last user is gone,
    and a later copy of about the same size takes it, which is several times as fast as new memory.
    `set_cache_limit` says how much is kept, and for how long.

    >>> tensor = dl.tensor(np.zeros((1024, 1024), np.float32))
    >>> copy = tensor.clone()
    >>> del copy
    >>> dl.trim() >= 4 << 20, dl.cached_bytes()
    (True, 0)
    """

def cached_bytes() -> int:
    """Returns the size in bytes of the memory that is cached for later copies.

    The system may already have taken some of its pages.

    >>> released = dl.trim()
    >>> dl.cached_bytes()
    0
    """

def set_cache_limit(bytes: int, /) -> int:
    """Sets the maximum size in bytes of the cached memory, and returns the one from before.

    With `bytes` = 0 the cache is off. Memory above the new maximum is given back at once. The
    maximum is one number for the process. It begins with the environment variable
    `DLBRIDGE_CACHE_LIMIT`, a number of bytes; without it, the maximum is 512 MiB on Linux and 0 on
    other systems.

    On Linux, the system takes cached pages when it runs short of memory, except for the 32 MiB that
    were freed last and less than 2 MiB of each block; until then, tools count them as resident.
    Memory that no copy used for 10 seconds is given back the next time that dlbridge allocates or
    frees 2 MiB or more for a copy. Memory from before a fork is not used again.

    Raises OverflowError if `bytes` is negative or does not fit 64 bits, and TypeError if it is not
    an integer.

    >>> before = dl.set_cache_limit(64 << 20)
    >>> dl.set_cache_limit(before)
    67108864
    """
