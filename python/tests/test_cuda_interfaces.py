"""Device memory of other libraries, through DLPack, PyTorch and `__cuda_array_interface__`, on the fake CUDA driver."""

import gc
import os
import subprocess
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import dlbridge as dl
from cuda_support import (
    HOST,
    IS_COPIED,
    DeviceProducer,
    OnFakeCuda,
    consumed,
    numbers,
    read_on,
    release,
)
from fake_cuda import Memory, Stream


class TestProducers(OnFakeCuda):
    """Import of CUDA memory through `__dlpack__`."""

    def test_imports_are_shared_and_ready_on_the_default_stream(self):
        memory = Memory(numbers(2, 3))
        producer, address = DeviceProducer(memory), memory.address
        del memory
        tensor = producer.imported()
        assert producer.asked == [{"stream": 1, "max_version": (1, 3)}]
        assert (tensor.device, tensor.data_ptr(), tensor.readonly) == ("cuda:0", address, False)
        assert tensor.cpu().tolist() == [[0, 1, 2], [3, 4, 5]] == tensor.cuda(1).cpu().tolist()
        assert dl.from_dlpack(tensor, device="cuda:0", copy=False).data_ptr() == address
        stream = Stream()
        struct = consumed(tensor, stream=stream.number)
        read = stream.read(address, 24)
        release(struct)
        assert producer.deleted == 0
        del tensor
        producer.check_released()  # the deleter was called, which frees the memory
        stream.synchronize()
        assert bytes(read) == numbers(2, 3).tobytes()

    def test_imports_to_the_host_are_copies(self):
        memory = Memory(numbers(2, 3))
        producer = DeviceProducer(memory)
        producer.answers = [dl.from_numpy(numbers(2, 3) + 1).__dlpack__(max_version=(1, 3))]
        fetched = dl.from_dlpack(producer, device="cpu")
        assert producer.asked == [{"dl_device": HOST, "max_version": (1, 3)}]
        assert (fetched.device, fetched.tolist()) == ("cpu", [[1, 2, 3], [4, 5, 6]])
        producer = DeviceProducer(memory)  # ignores `dl_device`
        ours = dl.from_dlpack(producer, device="cpu")
        assert (ours.device, ours.tolist()) == ("cpu", [[0, 1, 2], [3, 4, 5]])
        producer.check_released()
        producer = DeviceProducer(memory)  # does not take the keyword
        producer.answers = [TypeError("unexpected keyword")]
        with pytest.raises(ValueError, match="does not take"):
            dl.from_dlpack(producer, device="cpu")
        assert dl.from_dlpack(producer).cpu().tolist() == [[0, 1, 2], [3, 4, 5]]
        del producer

    def test_imports_to_another_device_are_copies(self):
        memory = Memory(numbers(6, 4), part=lambda a: a[:, ::2])
        producer = DeviceProducer(memory)
        across = dl.from_dlpack(producer, device="cuda:1")
        assert producer.asked == [{"stream": 1, "max_version": (1, 3)}]
        producer.check_released()
        assert (across.device, across.stride()) == ("cuda:1", (2, 1))
        assert np.array_equal(across.cpu().numpy(), numbers(6, 4)[:, ::2])
        producer = DeviceProducer(memory)
        with pytest.raises(ValueError, match="can't be on cuda:1 without a copy"):
            dl.from_dlpack(producer, device="cuda:1", copy=False)
        assert producer.asked == [{"stream": 1, "copy": False, "max_version": (1, 3)}]
        producer.check_released()

    def test_copy_true_is_passed_to_the_producer(self):
        memory, copied = Memory(numbers(2, 3)), Memory(numbers(2, 3) + 1)
        other = DeviceProducer(copied, flags=IS_COPIED)
        producer = DeviceProducer(memory)
        producer.answers = [other.capsule]
        tensor = dl.from_dlpack(producer, copy=True)
        assert producer.asked == [{"stream": 1, "copy": True, "max_version": (1, 3)}]
        assert (tensor.data_ptr(), tensor.cpu().tolist()) == (
            copied.address,
            [[1, 2, 3], [4, 5, 6]],
        )
        producer = DeviceProducer(memory)
        producer.answers = [TypeError("unexpected keyword"), producer.capsule]
        with pytest.raises(ValueError, match="does not take"):
            dl.from_dlpack(producer, copy=True)
        del tensor
        other.check_released()

    def test_copy_true_copies_if_the_producer_cannot(self):
        near = dl.from_numpy(numbers(3)).cuda()
        memory = Memory(numbers(3))
        for source, address in ((near, near.data_ptr()), (memory, memory.address)):
            for wanted, device in ((None, 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)):
                copied = dl.from_dlpack(source, copy=True, device=wanted)
                assert (copied.device, copied.cpu().tolist()) == (f"cuda:{device}", [0, 1, 2])
                assert copied.data_ptr() != address

    def test_host_arrays_are_imported_to_a_device(self):
        for source in (
            numbers(3),
            torch.arange(3.0),
            dl.from_numpy(numbers(3)),
            memoryview(numbers(3)),
        ):
            for copied in (None, True):
                near = dl.from_dlpack(source, device="cuda:1", copy=copied)
                assert (near.device, near.cpu().tolist()) == ("cuda:1", [0, 1, 2])
            with pytest.raises(ValueError, match="is on cpu and can't be on cuda:1 without a copy"):
                dl.from_dlpack(source, device="cuda:1", copy=False)

    def test_clones_stay_on_their_device(self):
        class Array(DeviceProducer):
            def __array_namespace__(self):
                return SimpleNamespace(from_dlpack=lambda tensor: ("theirs", tensor))

        turned = lambda: Memory(numbers(3, 4), 1, part=lambda a: a.T)  # noqa: E731
        for copied, strides in ((dl.clone, (1, 4)), (dl.contiguous, (3, 1))):
            for source in (turned(), DeviceProducer(turned()), dl.from_dlpack(turned())):
                new = copied(source)
                assert (type(new), new.device, new.stride()) == (dl.Tensor, "cuda:1", strides)
                assert np.array_equal(new.cpu().numpy(), numbers(3, 4).T)
        rows = DeviceProducer(Memory(numbers(3, 4)))
        assert dl.contiguous(rows) is rows
        word, new = dl.clone(Array(turned()))
        assert (word, new.device) == ("theirs", "cuda:1") and np.array_equal(
            new.cpu().numpy(), numbers(3, 4).T
        )


LIKE_TORCH = """
import contextlib, ctypes as C, sys, types
import numpy as np, dlbridge as dl
import fake_cuda
from producer import new_capsule, opened, set_name

asked = []
module = sys.modules["torch"] = types.ModuleType("torch")
internals = module._C = sys.modules["torch._C"] = types.ModuleType("torch._C")

class DispatchKey:
    __members__ = {"CUDA": 1}

class DispatchKeySet:
    def __init__(self, key):
        self.key = key
    def raw_repr(self):
        return self.key
    from_raw_repr = None

class UntypedStorage:
    def data_ptr(self):
        return memory.address
    def nbytes(self):
        return 4

internals.DispatchKey, internals.DispatchKeySet = DispatchKey, DispatchKeySet
internals._dispatch_keys = lambda tensor: DispatchKeySet(1)
internals.DisableTorchFunctionSubclass = contextlib.nullcontext
internals._disabled_torch_function_impl = None
module.UntypedStorage = UntypedStorage

@C.PYFUNCTYPE(C.c_int, C.py_object, C.c_void_p)
def describe(tensor, out):
    tensor.shown = tensor.inner.__dlpack__(max_version=(1, 3), stream=-1)
    struct = opened(tensor.shown)
    C.memmove(out, C.addressof(struct.tensor), C.sizeof(struct.tensor))
    return 0

@C.PYFUNCTYPE(C.c_int, C.py_object, C.POINTER(C.c_void_p))
def export(tensor, out):
    capsule = tensor.inner.__dlpack__(max_version=(1, 3), stream=-1)
    struct = opened(capsule)
    set_name(capsule, struct.used)
    out[0] = C.addressof(struct)
    return 0

@C.PYFUNCTYPE(C.c_int, C.c_int, C.c_int32, C.POINTER(C.c_void_p))
def current(device_type, index, out):
    if stream is None:
        return -1
    asked.append((device_type, index))
    out[0] = stream
    return 0

@C.PYFUNCTYPE(C.c_int)
def nothing():
    return -1

class Table(C.Structure):
    _fields_ = [("version", C.c_uint32 * 2), *[(name, C.c_void_p) for name in "previous allocate managed to borrowed stream".split()]]

address = lambda function: C.cast(function, C.c_void_p).value
table = Table((1, 3), None, address(nothing), address(export), address(nothing), address(describe), address(current))

class Tensor:
    requires_grad = property(lambda self: False)
    __torch_function__ = classmethod(lambda *_: NotImplemented)
    dtype = "torch.uint8"
    __dlpack_c_exchange_api__ = new_capsule(C.addressof(table), b"dlpack_exchange_api", None)
    def is_neg(self):
        return False
    def untyped_storage(self):
        return UntypedStorage()
    def __dlpack_device__(self):
        return (2, 1)
    def __dlpack__(self, **options):
        asked.append(options)
        return self.inner.__dlpack__(**options)

module.Tensor = Tensor
memory, side = fake_cuda.Memory(np.zeros(4, "u1"), 1), fake_cuda.Stream(1)
tensor = Tensor()
tensor.inner = dl.from_dlpack(memory)
stream = side.number
side.write(memory.address, bytes([1, 2, 3, 4]))
print(dl.from_dlpack(tensor).cpu().tolist())
stream = 0
side.write(memory.address, bytes([5, 6, 7, 8]))
print(dl.from_dlpack(tensor).cpu().tolist())
stream = None
print(dl.from_dlpack(tensor).shape, asked)
fake_cuda.synchronize_devices()
print(fake_cuda.faults() == "")
"""


class TestTorch(OnFakeCuda):
    """The calls of PyTorch's exchange table, in a process with a module that mimics PyTorch."""

    def test_imports_wait_for_pytorchs_current_stream(self):
        run = subprocess.run(
            [sys.executable, "-c", LIKE_TORCH],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert run.stdout.splitlines() == [
            "[1, 2, 3, 4]",
            "[1, 2, 3, 4]",  # the order of streams is unknown
            "(4,) [(2, 1), (2, 1), {'stream': 1, 'max_version': (1, 3)}]",
            "True",
        ], run.stderr


class TestCudaArrayInterface(OnFakeCuda):
    def test_device_is_found_by_address_and_memory_is_kept(self):
        memory = Memory(numbers(3, 4), 1, part=lambda a: a[1:, ::2])
        seen, address = weakref.ref(memory), memory.address
        near = dl.from_dlpack(memory)
        del memory
        gc.collect()
        assert seen() is not None
        assert (near.device, near.shape, near.stride()) == ("cuda:1", (2, 2), (4, 2))
        assert (near.data_ptr(), near.readonly) == (address + 16, False)
        assert near.cpu().tolist() == [[4, 6], [8, 10]]
        del near
        assert seen() is None

    def test_use_waits_for_the_stream_of_the_interface(self):
        new = numbers(1000)[::-1]
        for use in (
            lambda near: bytes(near.cpu()),
            lambda near: bytes(near.clone().cpu()),
            lambda near: bytes(near.cuda(1).cpu()),
            lambda near: read_on(Stream(), near),
            lambda near: read_on(Stream(0, 1), near),
        ):
            for told in (True, False):
                memory, stream = Memory(numbers(1000)), Stream()
                stream.write(memory.address, new.tobytes())
                memory.shown["stream"] = stream.number if told else None
                near = dl.from_dlpack(memory)
                assert use(near) == (new if told else numbers(1000)).tobytes()
                stream.synchronize()
                del near, memory

    def test_stream_numbers_of_the_interface(self):
        memory = Memory(numbers(3), 1)
        for stream in (None, 1, 2):
            memory.shown["stream"] = stream
            assert dl.from_dlpack(memory).cpu().tolist() == [0, 1, 2]
        for stream, error in ((0, ValueError), (-2, ValueError), ("1", TypeError)):
            memory.shown["stream"] = stream
            with pytest.raises(error):
                dl.from_dlpack(memory)

    def test_addresses_outside_device_memory_are_refused(self):
        freed = Memory(numbers(3)).address
        for address in (0x1000, numbers(3).ctypes.data, freed):
            interface = {"shape": (3,), "typestr": "<f4", "data": (address, False), "version": 3}
            with pytest.raises(BufferError, match="is not memory of a CUDA device"):
                dl.from_dlpack(SimpleNamespace(__cuda_array_interface__=interface))

    def test_read_only_memory_stays_read_only(self):
        memory = Memory(numbers(3))
        memory.shown["data"] = (memory.address, True)
        near = dl.from_dlpack(memory)
        assert near.readonly and near.__cuda_array_interface__["data"] == (memory.address, True)
        with pytest.raises(ValueError, match="read-only"):
            dl.copyto(near, numbers(3))
        with pytest.raises(BufferError, match="readonly"):
            near.__dlpack__()
        assert not near.clone().readonly and not near.cuda(1).readonly

    @pytest.mark.parametrize("dtype", ["float32", "uint8", "bool", "int64", "complex64", "float16"])
    def test_exported_dictionary(self, dtype):
        near = dl.from_numpy(numbers(2, 3, dtype=dtype)).cuda(1)
        expected = {
            "shape": (2, 3),
            "typestr": np.dtype(dtype).str,
            "data": (near.data_ptr(), False),
            "strides": None,
            "stream": 1,
            "version": 3,
        }
        assert near.__cuda_array_interface__ == expected
        turned = dl.from_dlpack(Memory(numbers(3, 2, dtype=dtype), part=lambda a: a.T[:, ::-1]))
        size = np.dtype(dtype).itemsize
        assert turned.__cuda_array_interface__ == {
            **expected,
            "data": (turned.data_ptr(), False),
            "strides": (size, -2 * size),
        }
        back = dl.from_dlpack(
            SimpleNamespace(__cuda_array_interface__=near.__cuda_array_interface__)
        )
        assert (back.device, back.data_ptr(), back.dtype) == ("cuda:1", near.data_ptr(), near.dtype)

    def test_host_tensors_have_no_cuda_array_interface(self):
        host = dl.from_numpy(numbers(3))
        assert not hasattr(host, "__cuda_array_interface__")
        assert not hasattr(host.pin_memory(), "__cuda_array_interface__")
        with pytest.raises(AttributeError, match=r"memory on cpu has no .*: cuda\(\) copies it"):
            _ = host.__cuda_array_interface__
        assert dl.from_numpy(numbers(0, 3)).cuda().__cuda_array_interface__["data"] == (0, False)

    def test_exported_memory_is_ready_on_the_default_stream(self):
        memory, writer = Memory(numbers(100)), Stream()
        writer.write(memory.address, numbers(100)[::-1].tobytes())
        memory.shown["stream"] = writer.number
        near = dl.from_dlpack(memory)
        user = Stream()
        struct = consumed(near, stream=user)
        user.write(struct.tensor.data, numbers(100).tobytes())
        interface = near.__cuda_array_interface__
        reader = Stream(0, interface["stream"])
        read = reader.read(interface["data"][0], near.nbytes)
        reader.synchronize()
        assert bytes(read) == numbers(100).tobytes()
        release(struct)
