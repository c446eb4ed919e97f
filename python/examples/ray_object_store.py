"""One tensor, two workers, one copy of the data for both: dlbridge and the object store of Ray.

`ray.put` writes 64 MB into shared memory, once. Each worker's `ray.get` gives a `Tensor` that lies right
there: nothing is copied, so it takes about a millisecond, and it is read-only, as others see the same memory.
`numpy()` shares it further. PyTorch would write it, so `torch()` asks for a copy: `tensor.clone().torch()`.

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
