"""Copies to, from and between CUDA devices, and page-locked memory, on the fake CUDA driver."""

import copy
import gc
import pickle

import numpy as np
import pytest
import torch

import dlbridge as dl
import fake_cuda
from cuda_support import HOST, LAYOUTS, OTHER, OnFakeCuda, numbers, on_device
from fake_cuda import Memory, live, log


class TestCopies(OnFakeCuda):
    @pytest.mark.parametrize("dtype", ["uint8", "bool", "float16", "float32", "complex128"])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_every_layout_and_dtype_round_trips(self, layout, dtype):
        array = LAYOUTS[layout](np.dtype(dtype))
        host = dl.from_numpy(array)
        clone, rows = host.clone(), host.clone(memory_format="contiguous_format")
        theirs = dl.from_dlpack(on_device(array))
        assert (theirs.device, theirs.stride()) == ("cuda:0", host.stride())
        for start in (host, theirs):
            near = start.to("cuda:0", copy=True)
            across = start.to("cuda:1")
            kept, row_major = near.clone(), start.cuda().contiguous()
            for tensor, device, strides in [
                (near, "cuda:0", clone),
                (across, "cuda:1", clone),
                (kept, "cuda:0", clone),
                (theirs.clone(), "cuda:0", clone),
                (start.cuda().clone(memory_format="contiguous_format"), "cuda:0", rows),
                (row_major, "cuda:0", rows if array.size else row_major),
                (start.to("cpu", copy=True), "cpu", clone),
                (across.cpu(), "cpu", clone),
            ]:
                assert (tensor.device, tensor.stride()) == (device, strides.stride())
                assert (tensor.shape, tensor.dtype, tensor.readonly) == (array.shape, dtype, False)
                back = tensor.numpy(force=True)
                assert back.dtype == array.dtype and np.array_equal(back, array)
                assert (
                    tensor.data_ptr() != start.data_ptr() or not array.size or tensor is row_major
                )
            assert row_major.contiguous() is row_major and row_major.is_contiguous()

    def test_the_device_of_new_tensors(self):
        for x in [[1.0, 2.0], np.array([1.0, 2.0]), on_device(np.array([1.0, 2.0]))]:
            for device, expected in [("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]:
                made = dl.tensor(x, device=device)
                assert made.device == expected and made.cpu().tolist() == [1.0, 2.0]
        near = dl.tensor([1, 2], dtype="int8", device=torch.device("cuda:0"))
        assert (near.device, near.dtype) == ("cuda:0", torch.int8)
        again = dl.tensor(near, device="cuda")
        assert again.data_ptr() != near.data_ptr() and dl.tensor(near).device == "cuda:0"
        with pytest.raises(TypeError, match="casts only numbers"):
            dl.tensor(near, dtype="int16", device="cpu")
        with pytest.raises(TypeError, match="cpu"):
            format(dl.tensor(1.0, device="cuda"), ".1f")

    def test_dtypes_that_numpy_lacks(self):
        for array in (
            torch.arange(6).to(torch.bfloat16).reshape(2, 3),
            torch.ones(3, dtype=torch.float8_e5m2),
        ):
            near = dl.from_dlpack(array).cuda()
            assert near.dtype == str(array.dtype).removeprefix("torch.")
            assert torch.equal(near.cpu().torch().float(), array.float())

    def test_large_copies_use_several_chunks(self):
        array = numbers(13, 1 << 20, dtype="uint8")
        for part in (array, array[:, ::3]):
            near = dl.from_numpy(part).cuda()
            assert np.array_equal(near.clone().cpu().numpy(), part)
        assert len(log("cuMemcpyHtoDAsync")) > 4

    @pytest.mark.parametrize(
        "format", ["channels_last", torch.channels_last, torch.preserve_format]
    )
    def test_memory_formats_match_host_tensors(self, format):
        host = dl.from_numpy(numbers(2, 3, 4, 5))
        clone = host.cuda().clone(memory_format=format)
        assert (clone.device, clone.stride()) == (
            "cuda:0",
            host.clone(memory_format=format).stride(),
        )
        assert np.array_equal(clone.cpu().numpy(), host.numpy())
        with pytest.raises(ValueError, match="is for 5 dimensions"):
            host.cuda().clone(memory_format="channels_last_3d")

    def test_tensors_already_on_the_device_are_returned_unchanged(self):
        near = dl.from_numpy(numbers(3)).cuda(1)
        fake_cuda.reset()
        for device in (
            None,
            1,
            "cuda:1",
            OTHER,
            torch.device("cuda:1"),
            torch.device("cuda"),
            "cuda",
        ):
            assert near.cuda(device) is near
        assert near.to("cuda") is near and near.to("cuda:1") is near and copy.copy(near) is near
        shared = dl.from_dlpack(near, device="cuda")
        assert shared.data_ptr() == near.data_ptr() and log() == []
        for new in (near.cuda(0), near.to("cuda:0"), dl.from_dlpack(near, device="cuda:0")):
            assert (new.device, new.cpu().tolist()) == ("cuda:0", [0, 1, 2])
        for new in (
            near.to("cuda", copy=True),
            copy.deepcopy(near),
            dl.tensor(near),
            dl.clone(near),
        ):
            assert new.device == "cuda:1" and new.data_ptr() != near.data_ptr()
            assert new.cpu().tolist() == [0, 1, 2]

    def test_unknown_devices_are_refused(self):
        host = dl.from_numpy(numbers(3))
        for call, error, words in [
            (
                lambda: host.cuda(2),
                BufferError,
                "cuda:2 is not available.*the driver has cuda:0 to cuda:1",
            ),
            (lambda: host.to("cuda:7"), BufferError, "the driver has cuda:0 to cuda:1"),
            (lambda: host.cuda(-1), ValueError, "-1 is not the index of a CUDA device"),
            (lambda: host.cuda(1 << 40), ValueError, "is not the index"),
            (lambda: host.cuda("cpu"), ValueError, "cpu is not a CUDA device"),
            (lambda: host.to("meta"), ValueError, "expected 'cpu', 'cuda' or 'cuda:N'"),
            (lambda: host.to("cuda:x"), ValueError, "expected"),
            (lambda: host.to(torch.float16), TypeError, "not a dtype"),
        ]:
            with pytest.raises(error, match=words):
                call()
        assert live(fake_cuda.QUEUED) == [0]

    def test_cuda_uses_the_current_device_and_keeps_it(self):
        host = dl.from_numpy(numbers(5))
        calls = [
            host.cuda,
            lambda: host.to("cuda"),
            lambda: dl.from_dlpack(host, device="cuda"),
            lambda: dl.from_dlpack(numbers(5), device="cuda"),
        ]
        assert [call().device for call in calls] == ["cuda:0"] * 4
        with fake_cuda.current(1):
            assert [call().device for call in calls] == ["cuda:1"] * 4
            there = host.cuda(0)
            assert there.cuda() is there and there.clone().cpu().tolist() == [0, 1, 2, 3, 4]
            empty = dl.from_dlpack(Memory(numbers(0)))  # without an address
            assert empty.device == "cuda:1"
            del there, empty
            assert fake_cuda.depth() == 1
            assert fake_cuda.made("cuCtxGetCurrent") == fake_cuda.context(1)

    def test_host_access_is_refused_with_a_remedy(self):
        near = dl.from_numpy(numbers(1)).cuda()
        to_numpy = (
            "can't convert cuda:0 device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )
        remedy = "use Tensor.cpu() first"
        for call, error, words in [
            (near.numpy, TypeError, to_numpy),
            (near.__array__, TypeError, to_numpy),
            (lambda: np.asarray(near), TypeError, to_numpy),
            (near.tolist, TypeError, f"can't list the elements of a tensor on cuda:0: {remedy}"),
            (near.item, TypeError, remedy),
            (lambda: float(near), TypeError, remedy),
            (lambda: bool(near), TypeError, remedy),
            (lambda: memoryview(near), BufferError, f"the memory is on cuda:0: {remedy}"),
            (lambda: bytes(near), BufferError, remedy),
            (
                lambda: pickle.dumps(near, 5),
                BufferError,
                f"can't pickle memory on cuda:0: {remedy}",
            ),
        ]:
            with pytest.raises(error) as raised:
                call()
            assert str(raised.value).endswith(words)
        with pytest.raises((BufferError, RuntimeError)):
            np.from_dlpack(near)
        assert repr(near) == "dlbridge.Tensor(..., shape=(1,), dtype=float32, device=cuda:0)"
        assert log("cuMemcpyDtoHAsync") == []


class TestCopyto(OnFakeCuda):
    PARTS = {
        "all": lambda a: a,
        "every other": lambda a: a[::2, ::3],
        "reversed": lambda a: a[::-1, ::-1],
        "turned": lambda a: a[:6].T,
        "a corner": lambda a: a[1:5, 2:5],
    }

    @pytest.mark.parametrize("to", PARTS)
    @pytest.mark.parametrize("dtype", ["float32", "uint8", "complex128"])
    def test_copyto_between_any_layouts_keeps_gaps(self, dtype, to):
        base, part = numbers(8, 9, dtype=dtype), self.PARTS[to]
        shape = part(base).shape
        values = numbers(*shape, dtype=dtype) + np.array(100, dtype)
        expected = base.copy()
        part(expected)[...] = values
        sources = {
            "rows": values,
            "columns": np.asfortranarray(values),
            "broadcast": np.broadcast_to(np.array(5, dtype), shape),
        }
        for name, source in sources.items():
            part(expected)[...] = source
            for given in (
                source,
                on_device(source),
                on_device(source, 1),
                dl.from_numpy(source).cuda(1),
                dl.from_numpy(source).pin_memory(),
            ):
                for index in range(2):
                    memory = Memory(base, index, part)
                    dl.copyto(memory, given)
                    fake_cuda.synchronize_devices()
                    assert np.array_equal(memory.now(), expected), name
                host = base.copy()
                dl.copyto(part(host), given)
                assert np.array_equal(host, expected), name

    def test_copyto_writes_dlbridge_memory(self):
        near = dl.from_numpy(numbers(2, 3)).cuda()
        dl.copyto(near, torch.ones(2, 3))
        assert near.cpu().tolist() == [[1] * 3] * 2
        into = torch.zeros(2, 3)
        before = into._version
        dl.copyto(into, near)
        assert into.tolist() == [[1] * 3] * 2 and into._version > before

    def test_copyto_handles_overlapping_memory(self):
        memory = Memory(numbers(100))
        dl.copyto(memory.other(lambda a: a[1:]), memory.other(lambda a: a[:-1]))
        fake_cuda.synchronize_devices()
        assert memory.now().tolist() == [0, *range(99)]
        dl.copyto(memory, memory.other(lambda a: a[::-1]))
        fake_cuda.synchronize_devices()
        assert memory.now().tolist() == [*range(98, -1, -1), 0]

    def test_copyto_refuses_other_shapes_and_dtypes(self):
        near = dl.from_numpy(numbers(4)).cuda()
        twice = Memory(numbers(1), part=lambda a: np.broadcast_to(a, (4,)))
        for dst, src, words in [
            (near, numbers(3), r"dst has shape \(4,\), src has \(3,\)"),
            (near, numbers(4, dtype="int32"), "dst has elements of type float32"),
            (numbers(2, 2), near, "dst has shape"),
            (twice, near, "share memory"),
            (b"1234", dl.from_numpy(numbers(4, dtype="uint8")).cuda(), "read-only"),
        ]:
            with pytest.raises(ValueError, match=words):
                dl.copyto(dst, src)
        assert near.cpu().tolist() == [0, 1, 2, 3]

    def test_copyto_into_external_memory_is_complete_on_return(self):
        memory, near = Memory(numbers(100)), dl.from_numpy(numbers(100)[::-1]).cuda()
        dl.copyto(memory, near)
        assert (
            memory.now().tolist() == numbers(100)[::-1].tolist()
        )  # the call has waited for the copy


class TestPageLockedMemory(OnFakeCuda):
    def test_pinned_memory_is_ordinary_host_memory(self):
        array = numbers(50, 20).T
        host = dl.from_numpy(array)
        assert not host.is_pinned()
        pinned = host.pin_memory()
        assert pinned.is_pinned() and pinned.pin_memory() is pinned and pinned.cpu() is pinned
        assert (pinned.device, pinned.__dlpack_device__(), pinned.readonly) == ("cpu", HOST, False)
        assert pinned.stride() == host.clone().stride() and np.array_equal(pinned.numpy(), array)
        assert not pinned.clone().is_pinned() and not pinned.to("cpu", copy=True).is_pinned()
        view, tensor = pinned.numpy(), torch.from_dlpack(pinned)
        assert tensor.device == torch.device("cpu")
        tensor[0, 1] = -7
        assert view[0, 1] == -7 == memoryview(pinned)[0, 1]
        assert dl.from_numpy(view[1:]).is_pinned() and dl.from_dlpack(tensor).is_pinned()
        before = live(fake_cuda.PINNED)[0]
        del pinned, view
        gc.collect()
        assert live(fake_cuda.PINNED) == [before] and tensor[0, 1] == -7
        del tensor
        assert live(fake_cuda.PINNED) == [before - 1]

    def test_external_pinned_memory_is_recognised(self):
        theirs = fake_cuda.PageLocked(40)
        pinned = dl.from_dlpack(theirs.bytes)
        assert pinned.is_pinned() and pinned.pin_memory() is pinned
        assert dl.from_numpy(np.frombuffer(theirs.bytes, "float32")[::-2]).is_pinned()
        del pinned

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_pin_memory_of_every_layout(self, layout):
        array = LAYOUTS[layout]("float32")
        near = dl.from_dlpack(on_device(array))
        for pinned in (dl.from_numpy(array).pin_memory(), near.pin_memory()):
            assert pinned.device == "cpu" and pinned.is_pinned() == (array.size > 0)
            assert pinned.stride() == dl.from_numpy(array).clone().stride()
            assert np.array_equal(pinned.numpy(), array)
            assert np.array_equal(pinned.cuda().cpu().numpy(), array)

    def test_pinned_memory_is_copied_directly(self):
        array = numbers(9 << 20, dtype="uint8")
        pinned, plain = dl.from_numpy(array).pin_memory(), dl.from_numpy(array)
        sizes = lambda name: [line.split(" bytes=")[1] for line in log(name)]  # noqa: E731
        fake_cuda.reset()
        near = pinned.cuda()
        assert sizes("cuMemcpyHtoDAsync") == [str(9 << 20)]
        pinned.numpy()[:] = 0  # the device does not use it any more
        fake_cuda.reset()
        back = dl.from_numpy(np.ones_like(array)).pin_memory()
        dl.copyto(back, near)
        assert sizes("cuMemcpyDtoHAsync") == [str(9 << 20)]
        assert np.array_equal(back.numpy(), array)
        fake_cuda.reset()
        dl.copyto(near, pinned)
        assert sizes("cuMemcpyHtoDAsync") == [str(9 << 20)] and not near.cpu().numpy().any()
        fake_cuda.reset()
        plain.cuda()
        assert len(sizes("cuMemcpyHtoDAsync")) == 3, "chunks of at most 4 MiB from pageable memory"

    def test_copyto_pinned_memory_from_every_device(self):
        pinned = dl.from_numpy(np.zeros((4, 6), "float32")).pin_memory()
        for source in (
            numbers(4, 6),
            dl.from_numpy(numbers(4, 6)).cuda(1),
            on_device(numbers(6, 4).T),
        ):
            dl.copyto(pinned, source)
            expected = source.part(source.array) if isinstance(source, Memory) else numbers(4, 6)
            assert np.array_equal(pinned.numpy(), expected)
