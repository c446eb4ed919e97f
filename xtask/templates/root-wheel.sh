set -e
python3 -m venv venv
venv/bin/pip install --quiet --no-index ./*.whl
venv/bin/python -m dlbridge >&2
venv/bin/python -c '
import platform
import dlbridge as dl

data = bytearray(6)
tensor = dl.from_dlpack(memoryview(data).cast("B", (2, 3)))
data[4] = 7
assert tensor.tolist() == [[0, 0, 0], [0, 7, 0]]
assert bytes(dl.clone(tensor)) == bytes(data)
print("CPython", platform.python_version())
'
