"""Writes double.onnx: a model with the input x and the output y = x + x, float32 of shape (2, 3).

It needs no package: it writes the few protobuf fields itself, as onnx.proto numbers them.
"""

from pathlib import Path


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def float_tensor(name: str, shape: list[int]) -> bytes:
    """A ValueInfoProto."""
    dims = b"".join(field(1, field(1, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


add = field(1, "x") + field(1, "x") + field(2, "y") + field(4, "Add")
value_infos = field(11, float_tensor("x", [2, 3])) + field(12, float_tensor("y", [2, 3]))
graph = field(1, add) + field(2, "double") + value_infos
model = field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))
Path(__file__).with_name("double.onnx").write_bytes(model)
