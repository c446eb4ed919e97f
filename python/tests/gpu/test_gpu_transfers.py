"""Copies between host and device, and on a device, equal PyTorch's copies bit for bit."""

import ctypes
import random
import threading

import numpy as np
import pytest
from busy import torch_stream
from elements import elements, same, steps

import dlbridge as dl

torch = pytest.importorskip("torch")

SHAPE = (24, 17, 10)
LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.transpose(0, 1),
    "permuted": lambda x: x.permute(2, 0, 1),
    "sliced": lambda x: x[3:, ::2, 1:4],
    "every other": lambda x: x[:, :, ::2],
    "a column": lambda x: x[:, :, 3],
    "a plane": lambda x: x[5],
    "broadcast": lambda x: x[:1].expand(7, -1, -1),
    "broadcast inside": lambda x: x[:, :1].expand(-1, 9, -1),
    "broadcast all over": lambda x: x[1, 2, 3].expand(4, 5),
    "windows": lambda x: x.flatten()[:100].unfold(0, 5, 2),
    "0-d": lambda x: x[1, 2, 3],
    "one": lambda x: x[:1, 4:5],
    "empty": lambda x: x[:, :0],
    "channels_last": lambda x: x.view(4, 6, 17, 10).permute(0, 3, 1, 2),
    "six dimensions": lambda x: x.view(2, 3, 4, 17, 5, 2).permute(5, 2, 0, 3, 1, 4),
}
DTYPES = ["uint8", "bfloat16", "float32", "complex64", "complex128"]
HOST_MEMORY = ["pageable", "pinned"]


def host_of(layout, dtype, memory="pageable"):
    """A tensor of PyTorch's on the host."""
    base = elements(SHAPE, dtype, "cpu")
    return LAYOUTS[layout](base.pin_memory() if memory == "pinned" else base)


# -- new memory
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", HOST_MEMORY)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_to_the_device(dtype, layout, memory):
    host = host_of(layout, dtype, memory)
    source = dl.from_dlpack(host)
    assert source.is_pinned() == (memory == "pinned") or host.numel() == 0
    tensor = source.cuda()
    assert (tensor.device, tensor.readonly, tensor.dtype) == ("cuda:0", False, dtype)
    assert tensor.stride() == source.clone().stride()
    assert same(tensor.torch(), host.cuda())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_to_the_host(dtype, layout):
    near = LAYOUTS[layout](elements(SHAPE, dtype))
    tensor = dl.from_dlpack(near)
    host = tensor.cpu()
    assert (host.device, host.readonly, host.dtype) == ("cpu", False, dtype)
    assert host.stride() == dl.from_dlpack(host_of(layout, dtype)).clone().stride()
    assert same(host.torch(), near.cpu())
    pinned = tensor.pin_memory()
    assert pinned.is_pinned() or near.numel() == 0
    assert same(pinned.torch(), near.cpu())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_clones_on_the_device(dtype, layout):
    near = LAYOUTS[layout](elements(SHAPE, dtype))
    formats = [torch.preserve_format, torch.contiguous_format]
    formats += [torch.channels_last] * (near.dim() == 4) + [torch.channels_last_3d] * (
        near.dim() == 5
    )
    for memory_format in formats:
        expected = near.clone(memory_format=memory_format)
        copy = dl.from_dlpack(near).clone(memory_format=memory_format).torch()
        assert same(copy, expected)
        assert steps(copy, copy.stride()) == steps(expected, expected.stride())
        if near.numel() > 0:
            assert copy.data_ptr() != near.data_ptr()
    tensor = dl.from_dlpack(near)
    row_major = tensor.contiguous()
    assert row_major.is_contiguous() and (row_major is tensor) == near.is_contiguous()
    # Elements that share memory go out read-only, which PyTorch would write.
    assert same(row_major.clone().torch(), near.contiguous())


@pytest.mark.parametrize("memory", HOST_MEMORY)
def test_numpy_arrays_with_negative_strides(memory):
    base = dl.from_numpy(np.arange(24 * 17, dtype=np.int32).reshape(24, 17))
    base = (base.pin_memory() if memory == "pinned" else base).numpy()
    for view in (
        base[::-1],
        base[:, ::-1],
        base[::-2, ::-3],
        base.T[::-1],
        base[3, ::-1],
        base[::-1, :1],
    ):
        expected = torch.from_numpy(view.copy()).cuda()
        tensor = dl.from_numpy(view).cuda()
        assert same(torch.from_dlpack(tensor), expected)
        near = dl.from_numpy(np.zeros_like(view)).cuda()
        dl.copyto(near, view)
        assert same(torch.from_dlpack(near), expected)
        target = np.zeros_like(view)[::-1]
        dl.copyto(target, expected)
        assert (target == view).all()


# -- memory that is there
# --------------------------------------------------------------------------------------

# Parts of a larger whole, of as many elements as `SHAPE`.
BASE_SHAPE = (48, 20, 20)
TARGETS = {
    "contiguous": lambda base: base.flatten()[: 24 * 17 * 10].view(24, 17, 10),
    "permuted": lambda base: base.flatten()[: 24 * 17 * 10].view(10, 24, 17).permute(1, 2, 0),
    "rows with gaps": lambda base: base[:24, 1:18, :10],
    "every other": lambda base: base[::2, :17, ::2],
}
SOURCES = TARGETS | {"broadcast": lambda base: base[:24, :1, :10].expand(SHAPE)}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", ["up", "up from pinned", "down", "down to pinned", "on the device"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_copyto_any_layout(dtype, way, source, target):
    from_device, to_device = (
        ("cpu" if "up" in way else "cuda"),
        ("cpu" if "down" in way else "cuda"),
    )
    origin = elements(BASE_SHAPE, dtype, from_device)
    base = torch.full(BASE_SHAPE, 0x5A, dtype=torch.uint8).to(getattr(torch, dtype)).to(to_device)
    if "pinned" in way:
        origin, base = (x if x.is_cuda else x.pin_memory() for x in (origin, base))
    expected = base.clone()
    origin = SOURCES[source](origin)
    dl.copyto(TARGETS[target](base), origin)
    TARGETS[target](expected).copy_(origin)
    # Gaps and all.
    assert same(base, expected)


@pytest.mark.parametrize("source_device", ["cpu", "cuda"])
def test_copyto_refuses_invalid_targets(source_device):
    near = torch.zeros(4, 6, device="cuda")
    for wrong in (torch.zeros(6, 4), torch.zeros(4, 6, dtype=torch.float64)):
        with pytest.raises(ValueError):
            dl.copyto(near, wrong.to(source_device))
    with pytest.raises(ValueError, match="share"):
        dl.copyto(near[:1].expand(4, -1), torch.zeros(4, 6, device=source_device))
    with pytest.raises(ValueError, match="read-only"):
        dl.copyto(np.broadcast_to(np.zeros(6, np.float32), (4, 6)), near)


def test_copyto_overlapping_memory():
    x = torch.arange(1000, device="cuda")
    dl.copyto(x[1:], x[:-1])
    assert torch.equal(x[1:], torch.arange(999, device="cuda")) and x[0].item() == 0
    square = torch.arange(64 * 64, device="cuda").view(64, 64)
    expected = square.T.clone()
    dl.copyto(square, square.T)
    assert torch.equal(square, expected)


def test_copyto_increments_autograds_version():
    x = torch.ones(4, device="cuda")
    before = x._version
    dl.copyto(x, torch.zeros(4))
    assert x._version > before


# -- sizes
# -----------------------------------------------------------------------------------------------------

MB = 1 << 20
SIZES = [1, 2, 3, 7, 255, 4095, 4096, 4097, 65_535, MB - 1, MB, MB + 1]
SIZES += [n * MB + odd for n in (4, 8, 12, 16) for odd in (-1, 0, 1, 5)] + [64 * MB + 3, 256 * MB]


@pytest.mark.parametrize("size", SIZES)
def test_copies_of_every_size(size):
    base = torch.randint(0, 256, (size + 3,), dtype=torch.uint8)
    host = base[3:]  # nowhere in particular
    near = host.cuda()
    source, tensor = dl.from_dlpack(host), dl.from_dlpack(near)
    assert torch.equal(source.cuda().torch(), near)
    assert torch.equal(tensor.cpu().torch(), host)
    assert torch.equal(tensor.clone().torch(), near)
    pinned = source.pin_memory()
    assert pinned.is_pinned() and torch.equal(pinned.torch(), host)
    assert torch.equal(pinned.cuda().torch(), near)
    for target in (torch.zeros_like(host), pinned.clone().pin_memory().torch().zero_()):
        dl.copyto(target, near)
        assert torch.equal(target, host)
    for start in (source, pinned, tensor):
        target = torch.zeros_like(near)
        dl.copyto(target, start)
        assert torch.equal(target, near)


LARGE = {
    "transposed": lambda x: x.T,
    "every other column": lambda x: x[:, ::2],
    "rows with gaps": lambda x: x[:, 5:],
    "every other row": lambda x: x[::2],
    "cut in three": lambda x: x[:2047, :4095].reshape(2047, 3, 1365).permute(1, 0, 2),
    "broadcast": lambda x: x[:3, None].expand(-1, 700, -1),
}


@pytest.mark.parametrize("layout", LARGE)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex128"])
def test_large_copies_in_every_layout(dtype, layout):
    """The copies take several chunks, which end at any element."""
    base = elements((2049, 4099), dtype, "cpu")
    host, near = LARGE[layout](base), LARGE[layout](base.cuda())
    assert same(dl.from_dlpack(host).cuda().torch(), near)
    assert same(dl.from_dlpack(near).cpu().torch(), host)
    assert same(dl.from_dlpack(near).clone().torch(), near)
    target = torch.zeros_like(near)
    dl.copyto(target, host)
    assert same(target, near)
    target = torch.zeros_like(host)
    dl.copyto(target, near)
    assert same(target, host)


@pytest.mark.parametrize("seed", range(200))
def test_copies_of_random_layouts(seed):
    dice = random.Random(seed)
    rank = dice.randint(1, 6)
    shape = [dice.choice([1, 2, 3, 5, 8, 13]) for _ in range(rank)]
    dtype = dice.choice([*DTYPES, "bool", "int16", "float64"])

    def picked(x):
        parts = []
        for size in shape:
            first, step = dice.randint(0, size - 1), dice.randint(1, 3)
            parts.append(slice(first, None, step))
        order = dice.sample(range(rank), rank)
        x = x[tuple(parts)].permute(order)
        if dice.random() < 0.3:
            dim = dice.randint(0, rank)
            x = x.unsqueeze(dim).expand(*x.shape[:dim], dice.randint(1, 4), *x.shape[dim:])
        return x

    base, state = elements(shape, dtype, "cpu"), dice.getstate()
    host = picked(base)
    dice.setstate(state)
    near = picked(base.cuda())
    expected = host.cuda()
    assert same(dl.from_dlpack(host).cuda().torch(), expected)
    assert same(dl.from_dlpack(near).cpu().torch(), host.clone())
    copy, theirs = dl.from_dlpack(near).clone().torch(), near.clone()
    assert same(copy, theirs) and steps(copy, copy.stride()) == steps(theirs, theirs.stride())
    reordered = dice.sample(range(host.dim()), host.dim())
    back = sorted(range(host.dim()), key=reordered.__getitem__)
    for device in ("cpu", "cuda"):
        target = torch.zeros([host.shape[at] for at in reordered], dtype=host.dtype, device=device)
        for source in (host, near):
            target.zero_()
            dl.copyto(target.permute(back), source)
            assert same(target.permute(back).cpu(), host)


# -- side by side with PyTorch
# ---------------------------------------------------------------------------------


def current_context():
    context = ctypes.c_void_p()
    assert ctypes.CDLL("libcuda.so.1").cuCtxGetCurrent(ctypes.byref(context)) == 0
    return context.value


def test_the_current_device_does_not_change():
    torch.zeros(1, device="cuda")
    device, context = torch.cuda.current_device(), current_context()
    tensor = dl.from_numpy(np.arange(1000)).cuda()
    (
        tensor.clone(),
        tensor.cpu(),
        tensor.pin_memory(),
        tensor.__dlpack__(stream=torch_stream("a").cuda_stream),
    )
    with pytest.raises(BufferError):
        tensor.to("cpu").cuda(99)
    assert (torch.cuda.current_device(), current_context()) == (device, context)
    assert torch.ones(10, device="cuda").sum().item() == 10


def test_the_current_context_of_threads_does_not_change():
    seen = []

    def run():
        before = current_context()
        tensor = dl.from_numpy(np.arange(1000)).cuda()
        seen.append((before, current_context(), tensor.cpu().tolist() == list(range(1000))))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(None, None, True)]


def test_torch_and_dlbridge_operations_alternate():
    x = torch.zeros(1 << 16, device="cuda")
    tensor = dl.from_dlpack(x)
    mirror = dl.from_numpy(np.zeros(1 << 16, np.float32))
    for number in range(1, 101):
        x.add_(1)
        copy = tensor.clone()
        x.mul_(2)
        dl.copyto(mirror, copy)
        assert mirror.numpy()[0] == mirror.numpy()[-1] == x[0].item() / 2
        dl.copyto(tensor, np.full(1 << 16, number, np.float32))
        assert (x == number).all()
    with torch.cuda.stream(torch_stream("a")):
        for number in range(100):
            x.fill_(number)
            assert (dl.from_dlpack(x).numpy(force=True) == number).all()
            y = torch.from_dlpack(dl.from_numpy(np.full(1 << 16, number, np.float32)).cuda())
            assert (y == number).all()


def test_threads_copy_concurrently():
    wrong = []

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(10):
            size = int(torch.randint(1, 20 << 20, (), generator=generator))
            host = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=generator)
            tensor = dl.from_dlpack(host).cuda()
            if not torch.equal(tensor.clone().cpu().torch(), host):
                wrong.append((seed, size))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- errors
# ----------------------------------------------------------------------------------------------------


def still_well():
    x = torch.arange(1000, device="cuda")
    assert x.sum().item() == 499_500
    assert torch.equal(dl.from_dlpack(x).clone().torch(), x)


def test_out_of_memory_is_a_memory_error():
    # One byte on the host, 2 TiB on the device.
    host = np.broadcast_to(np.zeros(1, np.uint8), (1 << 41,))
    with pytest.raises(MemoryError):
        dl.from_numpy(host).cuda()
    still_well()
    near = torch.zeros(1, dtype=torch.uint8, device="cuda").expand(1 << 41)
    with pytest.raises(MemoryError):
        dl.from_dlpack(near).clone()
    still_well()


def test_devices_that_do_not_exist_are_refused():
    tensor = dl.from_numpy(np.zeros(4))
    for name in (99, "cuda:99", (2, 99)):
        with pytest.raises(BufferError):
            tensor.cuda(name)
    with pytest.raises(ValueError):
        tensor.cuda("cpu")
    with pytest.raises(ValueError):
        tensor.cuda(-1)
    still_well()
