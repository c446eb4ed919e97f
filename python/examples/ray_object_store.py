"""One tensor and two workers that share its memory, through dlbridge and Ray's object store.

`ray.put` copies 64 MB to shared memory, once. In each worker, `ray.get` gives a `Tensor` of this memory, without a
copy. The tensor is read-only, because other processes use the same memory, and `numpy()` shares it. PyTorch could write
the memory, so `torch()` refuses it: `tensor.clone().torch()` copies.

    pip install . numpy ray
    python examples/ray_object_store.py
"""

import os
import time

import numpy as np
import ray

import dlbridge as dl


def file_behind(address):
    """The file whose mapping in this process holds an address (on Linux)."""
    with open("/proc/self/maps") as mappings:
        for mapping in mappings:
            span, _, _, _, _, *path = mapping.split(maxsplit=5)
            start, end = (int(bound, 16) for bound in span.split("-"))
            if start <= address < end:
                return "".join(path).strip() or "private memory"
    return "nowhere"


@ray.remote
class Worker:
    def look(self, box):
        start = time.perf_counter()
        tensor = ray.get(box[0])
        seconds = time.perf_counter() - start
        return {
            "pid": os.getpid(),
            "read-only": tensor.readonly,
            "memory": file_behind(tensor.data_ptr()),
            "sum": int(tensor.numpy().sum(dtype=np.float64)),
            "seconds": round(seconds, 6),
        }


def main():
    tensor = dl.from_numpy(np.arange(16 << 20, dtype=np.float32))
    print(
        f"driver: pid={os.getpid()}, {tensor.nbytes >> 20} MB in {file_behind(tensor.data_ptr())}"
    )
    reference = ray.put(tensor)
    workers = [Worker.remote(), Worker.remote()]
    # In a list the reference arrives as it is; Ray would replace it by the tensor otherwise.
    for facts in ray.get([worker.look.remote([reference]) for worker in workers]):
        print("worker:", ", ".join(f"{name}={value}" for name, value in facts.items()))


if __name__ == "__main__":
    quiet = {"include_dashboard": False, "logging_level": "error"}
    ray.init("local", num_cpus=2, object_store_memory=200 << 20, **quiet)
    main()
    ray.shutdown()
