"""Calls of the driver that fail, and machines without a driver or devices."""

import subprocess
import sys
from ctypes.util import find_library
from types import SimpleNamespace

import numpy as np
import pytest

import dlbridge as dl
import fake_cuda
from cuda_support import GPU, OnFakeCuda, numbers, on_device
from fake_cuda import Memory, Stream, live, log


@pytest.mark.skipif(
    fake_cuda.IS_HERE or find_library("cuda") is not None, reason="this process has a driver"
)
def test_machines_without_a_driver_are_reported():
    says("", "there is no driver (libcuda.so.1)")


SAYS = """
import numpy as np, dlbridge as dl
host = dl.tensor(np.ones(2))
def sentence(call):
    try:
        call()
    except BufferError as error:
        print(error)
for call in (
    host.cuda,
    host.pin_memory,
    lambda: dl.from_dlpack(np.ones(2), device="cuda"),
    lambda: host.to("cuda:1"),
    lambda: host.__dlpack__(dl_device=(2, 0)),
):
    sentence(call)
assert not host.is_pinned() and host.cpu() is host
class Far:
    __cuda_array_interface__ = {"shape": (2,), "typestr": "<f4", "data": (4096, False), "version": 3}
sentence(lambda: dl.from_dlpack(Far()))
"""


def says(prepare, reason):
    """What a process prints that can't reach a device."""
    run = subprocess.run([sys.executable, "-c", prepare + SAYS], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 6 and all(line.endswith(reason) for line in lines), lines
    assert lines[0] == f"cuda:0 is not available on this machine: {reason}"
    assert lines[3].startswith("cuda:1 is not available")


class TestFailures(OnFakeCuda):
    # Failures after which dlbridge leaks memory on purpose, because work may be pending, are left out.
    CALLS = (
        "cuMemAllocAsync",
        "cuMemHostAlloc",
        "cuMemcpyHtoDAsync",
        "cuMemcpyDtoHAsync",
        "cuMemcpyPeerAsync",
        "cuLaunchKernel",
        "cuEventCreate",
        "cuEventRecord",
        "cuStreamWaitEvent",
        "cuPointerGetAttribute",
    )

    def test_every_driver_failure_is_an_error_without_leaks(self):
        array = numbers(1200, 2500, dtype="uint16")[:, ::2]
        host, stream = dl.from_numpy(array), Stream()
        near = dl.from_dlpack(on_device(array))
        own = near.clone()
        pinned = host.pin_memory()

        def exported(tensor, **options):
            return dl.from_dlpack(tensor.__dlpack__(stream=stream.number, **options))

        def copied(dst, src):
            dl.copyto(dst, src)
            return dl.from_dlpack(dst)

        def imported():
            return dl.from_dlpack(SimpleNamespace(__cuda_array_interface__=interface, memory=near))

        interface = {**near.__cuda_array_interface__, "stream": stream.number}
        verbs = {
            "up": host.cuda,
            "up from pinned": pinned.cuda,
            "down": near.cpu,
            "across": lambda: near.to("cuda:1"),
            "clone": near.clone,
            "pin": host.pin_memory,
            "pin from there": near.pin_memory,
            "copyto": lambda: copied(own.clone(), near),
            "copyto the host": lambda: copied(np.empty_like(array), near),
            "out": lambda: exported(own),
            "out, copied": lambda: exported(own, copy=True),
            "out, from the host": lambda: exported(host, dl_device=GPU),
            "in": imported,
            "in and out": lambda: imported().__cuda_array_interface__ and near,
        }
        failures = 0
        for verb, call in verbs.items():
            call()
            fake_cuda.synchronize_devices()
            before = live(*self.counted)
            for name in self.CALLS:
                for nth in range(1, 100):
                    fake_cuda.reset()
                    out_of_memory = "Alloc" in name
                    code = fake_cuda.OUT_OF_MEMORY if out_of_memory else fake_cuda.UNKNOWN
                    fake_cuda.fail(name, nth, code)
                    try:
                        result, error = call(), None
                    except Exception as raised:
                        result, error = None, raised.with_traceback(None)
                    reached = any(line.endswith(f"-> {code}") for line in log(name))
                    label, faults = f"{verb}: {name} {nth}: {error!r}", fake_cuda.faults()
                    fake_cuda.reset()  # a failure that did not occur must not occur in the next case
                    if error is None:
                        assert np.array_equal(result.numpy(force=True), array), label
                    elif out_of_memory:
                        assert type(error) is MemoryError and str(error).startswith(
                            "out of memory: "
                        ), label
                    else:
                        assert type(error) is RuntimeError and name in str(error), label
                        assert "unknown error" in str(error), label
                    del result
                    fake_cuda.synchronize_devices()
                    assert (faults, fake_cuda.depth(), live(*self.counted)) == ("", 0, before), (
                        label
                    )
                    failures += error is not None
                    if not reached:
                        break
                else:
                    raise AssertionError(f"{label} without end")
            assert np.array_equal(call().numpy(force=True), array), "the next one works"
            fake_cuda.synchronize_devices()
        assert failures > 60, failures

    def test_error_messages(self):
        host = dl.from_numpy(numbers(100))
        near = host.cuda()
        fake_cuda.fail("cuMemAllocAsync", 1, fake_cuda.OUT_OF_MEMORY)
        with pytest.raises(MemoryError, match="^out of memory: 400 bytes$"):
            host.cuda()
        with pytest.raises(MemoryError, match="^out of memory: 1099511627776 bytes$"):
            dl.from_dlpack(
                Memory(numbers(1), part=lambda a: np.broadcast_to(a, (1 << 38,)))
            ).clone()
        fake_cuda.fail("cuMemcpyHtoDAsync", 1, 700)
        with pytest.raises(RuntimeError) as raised:
            host.cuda()
        assert str(raised.value) == (
            "CUDA: cuMemcpyHtoDAsync_v2 gave CUDA_ERROR_ILLEGAL_ADDRESS, an illegal memory access was encountered (error 700)"
        )
        fake_cuda.fail("cuMemHostAlloc", 1, fake_cuda.OUT_OF_MEMORY)
        with pytest.raises(MemoryError):
            host.pin_memory()
        fake_cuda.fail("cuMemcpyDtoHAsync", 1, 719)
        with pytest.raises(RuntimeError, match="unspecified launch failure"):
            near.cpu()
        assert near.cpu().tolist() == host.cuda().cpu().tolist() == list(range(100))

    def test_machines_without_devices_are_reported(self):
        prepare = "import ctypes; ctypes.CDLL('libcuda.so.1').fake_cuda_reset(0)"
        says(
            prepare,
            "CUDA: cuInit gave CUDA_ERROR_NO_DEVICE, no CUDA-capable device is detected (error 100)",
        )
