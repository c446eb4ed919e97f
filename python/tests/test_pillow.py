"""Images of Pillow, through `__array_interface__`."""

import numpy as np
import pytest
import torch

import dlbridge as dl

Image = pytest.importorskip("PIL.Image")


def test_images_are_read_only_arrays():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    image = Image.fromarray(pixels)
    shared = dl.from_dlpack(image)
    assert shared.readonly and shared.shape == (2, 4, 3) and shared.tolist() == pixels.tolist()
    with pytest.raises(ValueError, match="read-only"):
        dl.copyto(image, np.zeros((2, 4, 3), np.uint8))
    assert dl.tensor(image).tolist() == pixels.tolist()


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [("L", "uint8"), ("F", "float32"), ("I", "int32"), ("1", "bool"), ("I;16", "uint16")],
)
def test_modes_are_element_types(mode, dtype):
    shared = dl.from_dlpack(Image.new(mode, (3, 2), 1))
    assert shared.dtype == dtype and shared.shape == (2, 3) and shared.tolist()[0][0] == 1


def test_swapped_pixels_are_copied_only():
    image = Image.new("I;16B", (3, 2), 258)
    with pytest.raises(BufferError, match=r"native byte order: use dlbridge\.tensor\(\)"):
        dl.from_dlpack(image)
    assert dl.tensor(image).tolist() == [[258] * 3] * 2


def test_empty_images():
    assert dl.from_dlpack(Image.new("L", (0, 2))).shape == (2, 0)


def test_images_over_tensors():
    memory = bytearray(6)
    image = Image.frombuffer("L", (3, 2), dl.from_dlpack(memory), "raw", "L", 0, 1)
    assert image.tobytes() == bytes(6)
    columns = dl.from_dlpack(torch.arange(6, dtype=torch.uint8).reshape(2, 3).t())
    with pytest.raises((BufferError, ValueError, TypeError)):
        Image.frombuffer("L", (2, 3), columns, "raw", "L", 0, 1)
    assert np.asarray(Image.fromarray(columns.numpy())).tolist() == columns.tolist()
