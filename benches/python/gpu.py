"""Copies to, from and on a CUDA device, and conversions there, beside PyTorch, CuPy and the driver itself.

Prints Markdown. Contenders take turns in one process; each figure is the median of its turns. The measured time
includes the device work that a contender started. Needs PyTorch with CUDA, and CuPy.
"""

import ctypes
import os
import statistics
import time
import timeit

import cupy
import numpy as np
import torch

import dlbridge as dl

TURNS = 15
MIB = 1 << 20
SIZES = [MIB, 16 * MIB, 256 * MIB, 1024 * MIB]


def in_turns(contenders):
    """Median seconds of each contender's calls. The release of their results is not measured."""
    times = {name: [] for name in contenders}
    for turn in range(3 + TURNS):
        for name, call in contenders.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            result = call()
            taken = time.perf_counter() - start
            del result
            if turn >= 3:  # the first ones warm up
                times[name].append(taken)
    return {name: statistics.median(taken) for name, taken in times.items()}


def synchronized(call):
    def run():
        result = call()
        torch.cuda.synchronize()
        return result

    return run


class Driver:
    """Copies by the driver's own functions, on the default stream."""

    def __init__(self):
        library = ctypes.CDLL("libcuda.so.1")
        address, host, size, stream = (
            ctypes.c_uint64,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
        )
        self.functions = {
            "cuMemcpyHtoD_v2": (address, host, size),
            "cuMemcpyDtoH_v2": (host, address, size),
            "cuMemcpyHtoDAsync_v2": (address, host, size, stream),
            "cuMemcpyDtoHAsync_v2": (host, address, size, stream),
            "cuStreamSynchronize": (stream,),
        }
        for name, arguments in self.functions.items():
            self.functions[name] = getattr(library, name)
            self.functions[name].argtypes = arguments

    def call(self, name, *arguments):
        status = self.functions[name](*arguments)
        if status != 0:
            raise RuntimeError(f"{name} gave {status}")

    def up(self, device, host, size):
        self.call("cuMemcpyHtoD_v2", device, host, size)
        self.call("cuStreamSynchronize", None)

    def down(self, host, device, size):
        self.call("cuMemcpyDtoH_v2", host, device, size)

    def up_pinned(self, device, host, size):
        self.call("cuMemcpyHtoDAsync_v2", device, host, size, None)
        self.call("cuStreamSynchronize", None)

    def down_pinned(self, host, device, size):
        self.call("cuMemcpyDtoHAsync_v2", host, device, size, None)
        self.call("cuStreamSynchronize", None)


def transfers(driver, size):
    """The contenders of each transfer between host and device, dlbridge first.

    Contenders without `synchronized` wait for the transfer themselves.
    """
    array = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    target = np.ones(size, np.uint8)
    host, host_target = torch.from_numpy(array), torch.from_numpy(target)
    cuda, cuda_target = host.cuda(), torch.ones(size, dtype=torch.uint8, device="cuda")
    pinned, pinned_target = (
        host.pin_memory(),
        torch.ones(size, dtype=torch.uint8).pin_memory(),
    )
    ours, ours_target = dl.from_dlpack(cuda), dl.from_dlpack(cuda_target)
    our_pinned, our_pinned_target = (
        dl.from_dlpack(pinned),
        dl.from_dlpack(pinned_target),
    )
    at = ours_target.data_ptr()

    def driver_down_to_new():
        new = np.empty(size, np.uint8)
        driver.down(new.ctypes.data, ours.data_ptr(), size)
        return new

    return {
        "pageable → new memory: `dl.from_numpy(a).cuda()`": {
            "dlbridge": synchronized(lambda: dl.from_numpy(array).cuda()),
            "torch": synchronized(lambda: torch.from_numpy(array).cuda()),
        },
        "pageable → used memory: `dl.copyto(t, a)`": {
            "dlbridge": synchronized(lambda: dl.copyto(ours_target, array)),
            "torch": synchronized(lambda: cuda_target.copy_(host)),
            "driver": lambda: driver.up(at, array.ctypes.data, size),
        },
        "device → new memory: `t.cpu()`": {
            "dlbridge": lambda: ours.cpu(),
            "torch": lambda: cuda.cpu(),
            "driver": driver_down_to_new,
        },
        "device → used pageable memory: `dl.copyto(a, t)`": {
            "dlbridge": lambda: dl.copyto(target, ours),
            "torch": lambda: host_target.copy_(cuda),
            "driver": lambda: driver.down(target.ctypes.data, ours.data_ptr(), size),
        },
        "pinned → new memory: `p.cuda()`": {
            "dlbridge": synchronized(lambda: our_pinned.cuda()),
            "torch": synchronized(lambda: pinned.cuda(non_blocking=True)),
        },
        "pinned → used memory: `dl.copyto(t, p)`": {
            "dlbridge": lambda: dl.copyto(ours_target, our_pinned),
            "torch": synchronized(lambda: cuda_target.copy_(pinned, non_blocking=True)),
            "driver": lambda: driver.up_pinned(at, our_pinned.data_ptr(), size),
        },
        "device → pinned memory: `dl.copyto(p, t)`": {
            "dlbridge": lambda: dl.copyto(our_pinned_target, ours),
            "torch": synchronized(lambda: pinned_target.copy_(cuda, non_blocking=True)),
            "driver": lambda: driver.down_pinned(
                our_pinned_target.data_ptr(), ours.data_ptr(), size
            ),
        },
    }


def rates_of(size, contenders):
    """GB/s of each contender; each byte counts once."""
    return {name: size / seconds / 1e9 for name, seconds in in_turns(contenders).items()}


def row(cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def compared(rates, others):
    """The rate of dlbridge, then the rate of each other contender and the ratio of dlbridge to it."""
    cells = [f"{rates['dlbridge']:.2f}"]
    for other in others:
        rate = rates.get(other)
        cells += ["", ""] if rate is None else [f"{rate:.2f}", f"{rates['dlbridge'] / rate:.2f}"]
    return cells


def size_name(size):
    return f"{size // MIB} MiB" if size < 1024 * MIB else f"{size // (1024 * MIB)} GiB"


def between_host_and_device(driver):
    """Prints the rates; returns them by way and size."""
    print("GB/s between host and device; a ratio says how many times as fast dlbridge is:\n")
    row(["way", "size", "dlbridge", "torch", "ratio", "driver", "ratio"])
    row(["---"] * 7)
    found = {}
    for size in SIZES:
        for way, contenders in transfers(driver, size).items():
            rates = found[way, size] = rates_of(size, contenders)
            row([way, size_name(size), *compared(rates, ["torch", "driver"])])
        torch.cuda.empty_cache()
    return found


def on_the_device():
    print("\nGB/s of copies on the device, 256 MiB of `f32`; each byte counts once:\n")
    row(["copy", "dlbridge", "torch", "ratio", "CuPy", "ratio"])
    row(["---"] * 6)
    side = 8192
    square = torch.rand(side, side, device="cuda")
    wide = torch.rand(side, 2 * side, device="cuda")
    copies = {
        "contiguous: `clone()`": (square, "clone"),
        "transposed: `contiguous()`": (square.T, "contiguous"),
        "every other column: `contiguous()`": (wide[:, ::2], "contiguous"),
    }
    for name, (x, method) in copies.items():
        tensor, c = dl.from_dlpack(x), cupy.from_dlpack(x)
        contenders = {
            "dlbridge": synchronized(getattr(tensor, method)),
            "torch": synchronized(getattr(x, method)),
            "CuPy": synchronized(lambda c=c: c.copy(order="C")),
        }
        row([name, *compared(rates_of(tensor.nbytes, contenders), ["torch", "CuPy"])])


def conversions():
    """Prints how long a small tensor takes from library to library; returns the times."""
    print("\nNanoseconds of a conversion, including its release:\n")
    x = torch.zeros(4, 4, device="cuda")
    space = {
        "x": x,
        "ours": dl.from_dlpack(x),
        "from_ours": dl.from_dlpack,
        "to_cupy": cupy.from_dlpack,
        "to_torch": torch.from_dlpack,
    }
    statements = {
        "torch → dlbridge": "from_ours(x)",
        "torch → dlbridge → CuPy": "to_cupy(from_ours(x))",
        "torch → CuPy": "to_cupy(x)",
        "dlbridge → CuPy": "to_cupy(ours)",
        "torch → dlbridge → torch": "to_torch(from_ours(x))",
        "torch → torch": "to_torch(x)",
    }
    count = 1000
    timers = {
        name: timeit.Timer(statement, globals=space) for name, statement in statements.items()
    }
    times = {name: [] for name in timers}
    for turn in range(1 + TURNS):
        for name, timer in timers.items():
            taken = timer.timeit(count) / count
            if turn > 0:
                times[name].append(taken)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    row(["conversion", "ns"])
    row(["---"] * 2)
    for name, seconds in medians.items():
        row([name, f"{seconds * 1e9:.0f}"])
    return medians


def goals(rates, times):
    print("\n| goal | figures | |\n|---|---|---|")

    def ratios(way, other):
        found = [(size, rates[name, size]) for name, size in rates if name.startswith(way)]
        return {size: rate["dlbridge"] / rate[other] for size, rate in found}

    def judge(goal, figures, least):
        text = ", ".join(f"{size_name(size)}: {ratio:.2f}" for size, ratio in figures.items())
        row([goal, text, "met" if min(figures.values()) >= least else "missed"])

    judge(
        "pinned → device within 5 % of `cuMemcpyAsync`",
        ratios("pinned → used", "driver"),
        0.95,
    )
    judge(
        "device → pinned within 5 % of `cuMemcpyAsync`",
        ratios("device → pinned", "driver"),
        0.95,
    )
    judge(
        "pageable `t.cpu()` at least 1.5 × torch's",
        ratios("device → new", "torch"),
        1.5,
    )
    ratio = times["torch → dlbridge → CuPy"] / times["torch → CuPy"]
    verdict = "met" if ratio <= 1.0 else "missed"
    row(
        [
            "torch → dlbridge → CuPy no slower than torch → CuPy",
            f"{ratio:.2f} × the time",
            verdict,
        ]
    )


def main():
    torch.cuda.init()
    print(
        f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores; PyTorch {torch.__version__}, "
        f"CuPy {cupy.__version__}, dlbridge {dl.__version__}. Medians of {TURNS} turns.\n"
    )
    rates = between_host_and_device(Driver())
    on_the_device()
    goals(rates, conversions())


if __name__ == "__main__":
    main()
