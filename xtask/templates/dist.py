import numpy as np

import dlbridge as dl

array = np.arange(6, dtype=np.float32).reshape(2, 3)
assert dl.from_dlpack(array).numpy().ctypes.data == array.ctypes.data
assert dl.contiguous(array.T).tolist() == array.T.tolist()
