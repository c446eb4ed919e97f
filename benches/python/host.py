"""Conversions and copies on the host from Python, beside other libraries. `cargo xtask bench python` runs this.

Prints Markdown. Contenders take turns in one process. The figure of a conversion is the fastest of
its turns, because a conversion takes so little time that other work of the machine only adds to it.
The figure of a copy is the median of its turns.
"""

import os
import statistics
import subprocess
import sys
import time
import timeit

import bench_extension
import numpy as np
import torch
import tvm_ffi

import dlbridge as dl

TURNS = 15
CONVERSION_TURNS = 150


def in_turns(contenders, seconds=0.01, turns=TURNS, figure=statistics.median):
    """Seconds of one call of each statement: the `figure` of its turns."""
    timers = [timeit.Timer(statement, globals=space) for statement, space in contenders]
    rounds = []
    for timer in timers:
        once = max(min(timer.repeat(3, 1)), 1e-9)
        rounds.append(max(1, min(100_000, int(seconds / once))))
    times = [[] for _ in timers]
    for _ in range(turns):
        for timer, count, taken in zip(timers, rounds, times, strict=True):
            taken.append(timer.timeit(count) / count)
    return [figure(taken) for taken in times]


def conversions_in_turns(*statements):
    """Nanoseconds of one call of each statement, of the fastest turn."""
    contenders = [(statement, SPACE) for statement in statements]
    fastest = in_turns(contenders, 0.002, CONVERSION_TURNS, min)
    return [seconds * 1e9 for seconds in fastest]


ARRAY = np.arange(16, dtype=np.float32).reshape(4, 4)
TENSOR = torch.arange(16, dtype=torch.float32).reshape(4, 4)
OURS, TVM = dl.from_dlpack(TENSOR), tvm_ffi.from_dlpack(TENSOR)
SPACE = {
    "np": np,
    "torch": torch,
    "tvm_ffi": tvm_ffi,
    "dl": dl,
    "a": ARRAY,
    "x": TENSOR,
    "ours": OURS,
    "tvm": TVM,
    "from_ours": dl.from_dlpack,
    "from_tvm": tvm_ffi.from_dlpack,
    "np_from": np.from_dlpack,
    "torch_from": torch.from_dlpack,
    "with_dlbridge": bench_extension.with_dlbridge,
    "with_dlpark": bench_extension.with_dlpark,
    "result": bench_extension.with_dlbridge(ARRAY),
}

# Label and statement of dlbridge, label and statement of the other library, and the goal.
CONVERSIONS = [
    (
        "dl.from_dlpack(torch)",
        "from_ours(x)",
        "tvm_ffi.from_dlpack(torch)",
        "from_tvm(x)",
        "faster",
    ),
    (
        "dl.from_dlpack(torch)",
        "from_ours(x)",
        "the same, after `requires_grad`, `is_neg()`",
        "x.requires_grad; x.is_neg(); from_tvm(x)",
        "no slower",
    ),
    (
        "dl.from_dlpack(numpy)",
        "from_ours(a)",
        "tvm_ffi.from_dlpack(numpy)",
        "from_tvm(a)",
        "at most 0.9",
    ),
    (
        "dl.from_dlpack(numpy)",
        "from_ours(a)",
        "torch.from_dlpack(numpy)",
        "torch_from(a)",
        "",
    ),
    (
        "dl.from_numpy(a)",
        "dl.from_numpy(a)",
        "torch.from_numpy(a)",
        "torch.from_numpy(a)",
        "faster",
    ),
    (
        "np.from_dlpack(dl)",
        "np_from(ours)",
        "np.from_dlpack(tvm_ffi)",
        "np_from(tvm)",
        "no slower",
    ),
    ("np.from_dlpack(dl)", "np_from(ours)", "np.from_dlpack(torch)", "np_from(x)", ""),
    (
        "torch.from_dlpack(dl)",
        "torch_from(ours)",
        "torch.from_dlpack(tvm_ffi)",
        "torch_from(tvm)",
        "no slower",
    ),
    ("dl.tensor(a)", "dl.tensor(a)", "torch.tensor(a)", "torch.tensor(a)", "faster"),
    ("t.numpy()", "ours.numpy()", "torch: t.numpy()", "x.numpy()", "faster"),
    ("t.torch()", "ours.torch()", "torch.from_numpy(a)", "torch.from_numpy(a)", ""),
    ("t.tolist()", "ours.tolist()", "torch: t.tolist()", "x.tolist()", "faster"),
    ("t.clone()", "ours.clone()", "torch: t.clone()", "x.clone()", "faster"),
]


def conversions():
    print("| ours | ns | other | ns | ratio | goal |\n|---|---|---|---|---|---|")
    for ours, statement, label, other, goal in CONVERSIONS:
        mine, theirs = conversions_in_turns(statement, other)
        print(
            f"| `{ours}` | {mine:.0f} | {label if ' ' in label else f'`{label}`'} | {theirs:.0f} "
            f"| {mine / theirs:.2f} | {goal} |",
            flush=True,
        )


# What the functions of the extension module receive, the statement for both, and what only the
# statement for dlpark begins with.
CHECKS = "x.requires_grad; x.is_neg(); "
ROUND_TRIPS = [
    ("NumPy array", "{}(a)", ""),
    ("torch tensor", "{}(x)", ""),
    ("torch tensor; dlpark after `requires_grad`, `is_neg()`", "{}(x)", CHECKS),
    ("result of `with_dlbridge`", "{}(result)", ""),
]


def round_trips():
    print(
        "| argument | `with_dlbridge` ns | `with_dlpark` ns | ratio | goal |\n|---|---|---|---|---|"
    )
    for name, statement, checks in ROUND_TRIPS:
        ours, dlpark = conversions_in_turns(
            statement.format("with_dlbridge"), checks + statement.format("with_dlpark")
        )
        print(
            f"| {name} | {ours:.0f} | {dlpark:.0f} | {ours / dlpark:.2f} | no slower |",
            flush=True,
        )


# Layouts of 32 MiB: element type, shape of the array, and the view of it that is copied.
COPIES = {
    "contiguous": ("float32", (2900, 2900), lambda a: a),
    "2-D transposed, `float32`": ("float32", (2900, 2900), lambda a: a.T),
    "2-D transposed, `float64`": ("float64", (2052, 2052), lambda a: a.T),
    "3-D permuted (2, 0, 1)": (
        "float32",
        (204, 204, 206),
        lambda a: a.transpose(2, 0, 1),
    ),
    "4-D permuted (3, 1, 0, 2)": (
        "float32",
        (48, 60, 54, 54),
        lambda a: a.transpose(3, 1, 0, 2),
    ),
    "NHWC to NCHW, `uint8`": (
        "uint8",
        (54, 456, 456, 3),
        lambda a: a.transpose(0, 3, 1, 2),
    ),
    "NHWC to NCHW, `float32`": (
        "float32",
        (56, 224, 224, 3),
        lambda a: a.transpose(0, 3, 1, 2),
    ),
    "NCHW to NHWC, `float32`": (
        "float32",
        (56, 3, 224, 224),
        lambda a: a.transpose(0, 2, 3, 1),
    ),
    "every other column": ("float32", (2900, 5800), lambda a: a[:, ::2]),
}


def copies():
    print(f"{os.environ['RAYON_NUM_THREADS']} thread(s):\n")
    print(
        "| 32 MiB | `np.ascontiguousarray` GB/s | `dl.contiguous` of the array | ratio "
        "| `torch.contiguous` | `dl.contiguous` of the tensor | ratio | `np.copyto` | `copy_` | `dl.copyto` "
        "| to NumPy | to torch |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    )
    torch.set_num_threads(int(os.environ["RAYON_NUM_THREADS"]))
    means = [[] for _ in range(4)]
    for name, (dtype, shape, view) in COPIES.items():
        array = view(np.random.default_rng(0).integers(0, 100, shape).astype(dtype))
        space = {
            "np": np,
            "torch": torch,
            "dl": dl,
            "a": array,
            "x": torch.from_numpy(array),
            "b": np.empty(array.shape, dtype),
            "y": torch.empty(array.shape, dtype=torch.from_numpy(array).dtype),
        }
        space["b"][...] = 1
        space["y"].fill_(1)
        fresh = [
            "np.array(a, order='C', copy=True)",
            "dl.clone(a)" if name == "contiguous" else "dl.contiguous(a)",
            "x.clone(memory_format=torch.contiguous_format)",
            "dl.clone(x)" if name == "contiguous" else "dl.contiguous(x)",
        ]
        used = ["np.copyto(b, a)", "y.copy_(x)", "dl.copyto(b, a)"]
        rates = [
            array.nbytes / seconds / 1e9
            for seconds in in_turns([(code, space) for code in fresh + used], 0.02)
        ]
        numpy, ours_np, of_torch, ours_torch, np_used, torch_used, ours_used = rates
        ratios = [
            ours_np / numpy,
            ours_torch / of_torch,
            ours_used / np_used,
            ours_used / torch_used,
        ]
        print(
            f"| {name} | {numpy:.2f} | {ours_np:.2f} | {ratios[0]:.2f} | {of_torch:.2f} | {ours_torch:.2f} "
            f"| {ratios[1]:.2f} | {np_used:.2f} | {torch_used:.2f} | {ours_used:.2f} | {ratios[2]:.2f} | {ratios[3]:.2f} |",
            flush=True,
        )
        if name != "contiguous":
            for mean, ratio in zip(means, ratios, strict=True):
                mean.append(ratio)
    first, second, third, fourth = (statistics.geometric_mean(mean) for mean in means)
    print(
        f"| geometric mean, contiguous left out | | | **{first:.1f}** | | | **{second:.1f}** | | | | **{third:.1f}** "
        f"| **{fourth:.1f}** |"
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["copies"]:
        copies()
    else:
        conversions()
        print()
        round_trips()
        for threads in ("1", str(os.cpu_count())):
            print(flush=True)
            time.sleep(1)
            subprocess.run(
                [sys.executable, __file__, "copies"],
                env={**os.environ, "RAYON_NUM_THREADS": threads},
                check=True,
            )
