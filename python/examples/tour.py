"""Conversions of NumPy and PyTorch, line by line, with dlbridge: `python examples/tour.py`.

Each step prints a line of NumPy or PyTorch, does the same with dlbridge, and prints the result. Assertions check which
memory is shared.
"""

import numpy as np
import torch

import dlbridge as dl


def known(line):
    print(f"\n>>> {line}")


def matrix():
    return np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)


print("── 1. Array to tensor: copy or share ──")
a = matrix()
known("t = torch.tensor(a); a[0, 0] = 100; t            # a copy")
t = dl.tensor(a)
a[0, 0] = 100
print(t)
assert t.data_ptr() != a.ctypes.data and t.tolist()[0][0] == 1.0

known("t = torch.from_numpy(a); t[0, 0] = -1; a         # the same memory")
t = dl.from_numpy(a)
t.torch()[0, 0] = -1
print(a)
assert t.data_ptr() == a.ctypes.data and a[0, 0] == -1

known(
    "torch.from_numpy(a[::-1])                        # an error there; torch.from_dlpack(a[::-1]) aborts"
)
t = dl.from_numpy(a[::-1])
print(t.stride(), t.tolist())
assert t.stride() == (-2, 1) and t.data_ptr() == a[1:].ctypes.data

print("\n── 2. Tensor to array ──")
x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
known("n = t.numpy(); n[0, 0] = 5; t                    # the same memory")
n = dl.from_dlpack(x).numpy()
n[0, 0] = 5
print(x)
assert n.ctypes.data == x.data_ptr() and x[0, 0] == 5

known("t.requires_grad_().numpy()                       # refused, with the remedy")
try:
    dl.from_dlpack(torch.ones(2, requires_grad=True))
    raise AssertionError("not refused")
except BufferError as refused:
    print(refused)

print("\n── 3. Tensor to list ──")
known("t.tolist(); t.sum().item()")
print(dl.from_dlpack(x).tolist(), dl.from_dlpack(x.sum()).item())
assert dl.from_dlpack(x).tolist() == x.tolist()

print("\n── 4. A tensor on the GPU ──")
known("t.cuda().numpy()")
if torch.cuda.is_available():
    try:
        dl.from_dlpack(x.cuda()).numpy()
        raise AssertionError("not refused")
    except TypeError as refused:
        print(refused)
    print(dl.from_dlpack(x.cuda()).cpu().numpy())
else:
    print("(no CUDA device here)")
known("t.cpu() is t                                     # already there: nothing moves")
t = dl.from_dlpack(x)
print(t.cpu() is t)
assert t.cpu() is t

print("\n── 5. Clone ──")
known("c = t.clone(); t[0, 0] = 100; c                  # untouched")
c = t.clone()
x[0, 0] = 100
print(c)
assert c.tolist()[0][0] == 5
known("c = t.t().clone(); c.stride()                    # the order of strides is kept")
c = dl.clone(x.t())
print(type(c).__name__, c.stride(), c.stride() == x.t().clone().stride())
assert c.stride() == x.t().clone().stride()
