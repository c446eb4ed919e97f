"""The Python blocks of the README files and of the guides run, and what the guides claim holds."""

import copy
import os
import pickle
import re
import subprocess
import sys
import threading
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch

import dlbridge as dl
from examples import blocks_of, imports, sections_of

GUIDE = "docs/python.md"
PROCESSES = "docs/python-processes.md"
PAGES = ["README.md", "python/README.md", GUIDE, PROCESSES]
BLOCKS = {
    f"{page}: {title or 'start'}, block {number}": block
    for page in PAGES
    for title in dict.fromkeys(title for title, _ in sections_of(page))
    for number, block in enumerate(blocks_of(page, title), start=1)
}


def run_as_program(block, folder):
    """Runs a block in a new interpreter."""
    program = folder / "program.py"
    program.write_text(block)
    command = [sys.executable, "-W", "error::ResourceWarning", str(program)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=folder, env=environment
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", BLOCKS)
def test_the_block_runs(name, tmp_path):
    block = BLOCKS[name]
    for package in dict.fromkeys(imports(block)):
        pytest.importorskip(package, exc_type=ImportError)
    # Some start processes, and NumPy's registry holds for a whole process.
    if "__main__" in block or "register_dlpack_dtype" in block:
        run_as_program(block, tmp_path)
    else:
        exec(compile(block, name, "exec"), {"__name__": "block"})


@pytest.mark.parametrize(("page", "others"), [(GUIDE, {"sh"}), (PROCESSES, set())])
def test_the_guide_has_no_blocks_that_are_not_run(page, others):
    fences = [text for _, text in sections_of(page)]
    opened = re.findall("^```(.+)$", "".join(fences), re.MULTILINE)
    assert set(opened) == {"python", *others}
    assert opened.count("python") == len(blocks_of(page))


def rows_of(title):
    """The cells of the table in a section of the guide, without its head."""
    (text,) = [text for heading, text in sections_of(GUIDE) if heading == title]
    rows = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    return [row.split(" | ") for row in rows[1:]]


EXPRESSIONS = {
    expression: memory
    for expressions, memory in rows_of("What shares memory")
    for expression in re.findall("`(.*?)`", expressions)
}


def bounds(array):
    """The addresses of an array's first byte and after its last; `None` if it is no array."""
    if isinstance(array, bytes | list):
        return None
    return np.lib.array_utils.byte_bounds(dl.from_dlpack(array).numpy())


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_shares_memory(expression):
    jnp = pytest.importorskip("jax.numpy") if re.search(r"\bjn?p?\b", expression) else None
    sources = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "x": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "t": dl.tensor(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "j": jnp and jnp.arange(6, dtype=np.float32).reshape(2, 3),
    }
    modules = {"np": np, "torch": torch, "dl": dl, "jnp": jnp, "copy": copy, "pickle": pickle}
    source = sources[re.search(r"\b[axtj]\b(?!\()", expression)[0]]
    result = eval(expression, {**modules, **sources})
    memory = EXPRESSIONS[expression]
    assert memory.startswith(("shared", "copied"))
    assert (bounds(result) == bounds(source)) == memory.startswith("shared")
    assert (result is source) == ("itself" in memory)


def test_what_jax_shares_copies_and_refuses():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    rows = dl.tensor(np.zeros((2, 3), np.float32))
    wide = dl.tensor(np.zeros(6))
    assert bounds(jnp.from_dlpack(rows)) == bounds(rows)
    array = rows.numpy()
    reversed_rows, gaps = dl.from_numpy(array[::-1]), dl.from_numpy(array[:, ::2])
    assert bounds(jnp.from_dlpack(reversed_rows)) != bounds(reversed_rows)
    with pytest.raises(jax.errors.JaxRuntimeError):
        jnp.from_dlpack(gaps)
    assert jnp.from_dlpack(gaps.contiguous()).shape == (2, 2)
    broadcast = dl.from_numpy(np.broadcast_to(array[0], (2, 3)))
    assert jnp.asarray(broadcast).shape == jnp.from_dlpack(broadcast.clone()).shape == (2, 3)
    assert jnp.from_dlpack(wide).dtype == "float32"


BROADCAST = {
    "NumPy": lambda: dl.from_numpy(np.broadcast_to(np.zeros(3, np.float32), (2, 3))),
    "PyTorch": lambda: dl.from_dlpack(torch.zeros(3).expand(2, 3)),
}


def what_is_made(expression, tensor):
    """What an expression gives for broadcast memory, in the words of the guide."""
    space = {"t": tensor, "np": np, "torch": torch, "dl": dl}
    space["src"] = space["dst"] = np.zeros((2, 3), np.float32)
    try:
        made = eval(expression, space)
    except (BufferError, ValueError) as error:
        return f"`{type(error).__name__}`"
    if isinstance(made, bool):
        return f"`{made}`"
    if made is None or made.__class__ is dl.Tensor:
        return "one element per index"
    if isinstance(made, memoryview):
        return "read-only view" if made.readonly else "writable view"
    if isinstance(made, np.ndarray) and not made.flags.writeable:
        assert made.ctypes.data == tensor.data_ptr()
        return "read-only view"
    made[0, 1] = 5.0
    assert tensor.tolist() == [[0.0, 5.0, 0.0]] * 2
    return "writable view"


@pytest.mark.parametrize(
    ("expression", "column", "library"),
    [
        (expression, column, library)
        for expressions, *columns in rows_of("Read-only memory and negative strides")
        for expression in re.findall("`(.*?)`", expressions)
        for column, library in zip(columns, BROADCAST, strict=True)
        if expression != "expression"
    ],
)
def test_what_broadcast_memory_gives(expression, column, library):
    assert what_is_made(expression, BROADCAST[library]()) == column
    clone = BROADCAST[library]().clone()
    assert clone.stride() == (3, 1) and not clone.readonly


def test_sending_a_torch_tensor_leaves_ours_the_old_memory():
    tensor = dl.tensor(np.zeros(3))
    x = tensor.torch()
    ForkingPickler.dumps(x)
    x[0] = 5.0
    assert x.is_shared() and tensor.tolist() == [0.0] * 3


CLOSED = """
import sys, numpy as np, dlbridge as dl
from multiprocessing import shared_memory
memory = shared_memory.SharedMemory(create=True, size=64)
array = np.ndarray(8, np.int64, buffer=memory.buf)
tensor = dl.from_numpy(array)
try:
    memory.close()
except BufferError:
    del tensor
memory.close()
memory.unlink()
print("closed", flush=True)
array[0]
"""


def test_an_array_alone_does_not_keep_shared_memory_open():
    run = subprocess.run([sys.executable, "-c", CLOSED], capture_output=True, text=True)
    assert run.stdout == "closed\n" and run.returncode < 0, run.stderr


def ring_with(line):
    """The program of the ring with another line in its decoder."""
    (ring, _) = blocks_of(PROCESSES, "A ring of buffers")
    start = '    """Your decoder'
    assert ring.count(start) == 1
    if "kill" in line:
        ring = ring.replace("timeout=60", "timeout=20")
    return ring.replace(start, f"    if index == 9:\n        {line}\n{start}")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("raise OSError('no such image')", "RuntimeError: Traceback"),
        ("import os; os.kill(os.getpid(), 9)", "queue.Empty"),
    ],
)
def test_the_ring_ends_if_a_worker_fails(line, reason, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(ring_with(line))
    command = [sys.executable, str(program)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert run.returncode == 1 and reason in run.stderr, run.stderr
    assert ("no such image" in run.stderr) == ("OSError" in line)


def test_the_shown_cast_keeps_float32():
    pixels = np.zeros(3, np.uint8)
    assert (pixels / np.float32(255)).dtype == np.float32 and (pixels / 255).dtype == np.float64


def test_pytorch_ignores_that_memory_is_read_only():
    array = np.zeros(3)
    array.flags.writeable = False
    tensor = dl.from_numpy(array)
    for ours in torch.from_dlpack(tensor), torch.as_tensor(tensor):
        assert ours.data_ptr() == tensor.data_ptr()


def test_a_queue_of_multiprocessing_copies_a_tensor():
    tensor = dl.tensor(np.zeros(1000))
    assert len(ForkingPickler.dumps(tensor)) > tensor.nbytes


def test_a_mapped_file_is_shared(tmp_path):
    file = tmp_path / "numbers"
    file.write_bytes(bytes(64))
    program = """
import mmap, sys, dlbridge as dl
with open(sys.argv[1], "r+b") as file:
    dl.from_dlpack(memoryview(mmap.mmap(file.fileno(), 0)).cast("q")).numpy()[:] = 5
"""
    mapped = dl.from_dlpack(np.memmap(file, np.int64, "r+"))
    subprocess.run([sys.executable, "-c", program, str(file)], check=True, timeout=100)
    assert mapped.tolist() == [5] * 8


TYPES = [
    (name, *cells)
    for names, *cells in rows_of("Element types")
    for name in re.findall("`(.*?)`", names)
]


@pytest.mark.parametrize(("name", "in_numpy", "in_torch", "in_lists"), TYPES)
def test_which_library_has_the_element_type(name, in_numpy, in_torch, in_lists):
    if in_numpy != "yes":
        ml_dtypes = pytest.importorskip("ml_dtypes")
        array = np.ones(3, getattr(ml_dtypes, name))
        with pytest.raises(BufferError):
            memoryview(dl.from_numpy(array))
    else:
        array = np.ones(3, name)
    tensor = dl.from_numpy(array)
    assert tensor.dtype == name and bounds(tensor) == bounds(array)
    assert bytes(tensor) == array.tobytes()
    if in_torch == "yes":
        x = tensor.torch()
        assert x.data_ptr() == tensor.data_ptr()
        assert dl.from_dlpack(x).numpy().dtype == array.dtype
    else:
        with pytest.raises(TypeError):
            tensor.torch()
    if in_lists == "yes":
        assert tensor.tolist() == [1] * 3
    else:
        with pytest.raises(TypeError):
            tensor.tolist()
        assert tensor.numpy().astype("float32").tolist() == [1.0] * 3


def test_a_forked_child_copies_with_several_threads():
    program = """
import multiprocessing, numpy as np, dlbridge as dl
LARGE = np.ones((2048, 2048), np.float32)
def work(queue):
    queue.put(float(dl.contiguous(LARGE.T).sum()))
if __name__ == "__main__":
    assert dl.contiguous(LARGE.T).sum() == LARGE.size
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=work, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == LARGE.size
    child.join()
"""
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr


SEND = """
import multiprocessing, torch, dlbridge as dl

def nothing(_):
    pass

def moved_by(send):
    x = torch.zeros(3)
    tensor = dl.from_dlpack(x)
    send(x)
    try:
        tensor.numpy()
    except BufferError:
        return True
    return False

def start(method):
    def send(x):
        child = multiprocessing.get_context(method).Process(target=nothing, args=(x,))
        child.start()
        child.join()
        assert child.exitcode == 0
    return send

def exchange(put, get):
    def send(x):
        put(x)
        get()[0] = 5.0
        assert x[0] == 5.0
    return send

if __name__ == "__main__":
    queue, (reader, writer) = multiprocessing.Queue(), multiprocessing.Pipe()
    assert moved_by(exchange(queue.put, queue.get))
    assert moved_by(exchange(writer.send, reader.recv))
    assert moved_by(start("spawn")) and not moved_by(start("fork"))
"""


def test_what_moves_a_tensor_of_pytorch_to_shared_memory(tmp_path):
    run_as_program(SEND, tmp_path)


class Samples(torch.utils.data.Dataset):
    def __init__(self, sample):
        self.sample = sample

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.sample


def test_the_default_collate_function_does_not_accept_a_tensor():
    loader = torch.utils.data.DataLoader(Samples(dl.tensor(np.zeros(3))))
    with pytest.raises(TypeError):
        next(iter(loader))


def others_run_during(work, attempts):
    """Whether another Python thread ran while `work` did. It runs only if `work` releases the GIL."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    try:
        for _ in range(attempts):
            gate, ran = threading.Lock(), []
            gate.acquire()
            other = threading.Thread(
                target=lambda gate=gate, ran=ran: gate.acquire() and ran.append(1)
            )
            other.start()
            gate.release()
            work()
            seen = bool(ran)
            other.join()
            if seen:
                return True
        return False
    finally:
        sys.setswitchinterval(interval)


ROWS = np.zeros((2048, 2048), np.float32)
LARGE = dl.from_numpy(ROWS.T)
TARGET = np.zeros((2048, 2048), np.float32)

RELEASE = {
    "dl.tensor": lambda: dl.tensor(ROWS),
    "dl.clone": lambda: dl.clone(ROWS),
    "dl.contiguous": lambda: dl.contiguous(ROWS.T),
    "dl.copyto": lambda: dl.copyto(TARGET, LARGE),
    "t.clone": lambda: LARGE.clone(memory_format="contiguous_format"),
    "t.contiguous": LARGE.contiguous,
    "t.to(..., copy=True)": lambda: LARGE.to("cpu", copy=True),
    "copy.deepcopy": lambda: copy.deepcopy(LARGE),
}
SMALL = dl.tensor(np.zeros(8000))
KEEP = {
    "small clone": SMALL.clone,
    "t.tolist": SMALL.tolist,
    "bytes": lambda: bytes(SMALL),
    "pickle": lambda: pickle.dumps(SMALL),
    "numpy": LARGE.numpy,
    "from_dlpack": lambda: dl.from_dlpack(ROWS),
}


@pytest.mark.parametrize("call", RELEASE)
def test_large_copies_release_the_gil(call):
    # A copy takes about a millisecond. If all processors are busy with it and with other tests, the
    # other thread gets none of them in time in most attempts.
    assert others_run_during(RELEASE[call], attempts=5000)


@pytest.mark.parametrize("call", KEEP)
def test_other_calls_keep_the_gil(call):
    assert not others_run_during(KEEP[call], attempts=3)
