"""The functions and the class of the module, with arrays of each library, against NumPy's own computation."""

import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import image_batches as ib

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPES = [(4, 5, 3), (2, 4, 5, 3), (0, 4, 5, 3), (1, 1, 1, 3)]


def pixels(*shape):
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def expected(images):
    planes = np.moveaxis(np.asarray(images).astype(np.float64), -1, -3) / 255
    return (planes - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))


# How to make an array of a library, and the class that results have.
LIBRARIES = {
    "numpy": (np.asarray, np.ndarray),
    "torch": (lambda array: torch.from_numpy(array.copy()), torch.Tensor),
    "jax": (jnp.asarray, jax.Array),
    "memoryview": (memoryview, memoryview),
    "another tensor": (lambda array: ib.Batch(array).images, ib.Tensor),
}
LAYOUTS = {
    "row-major": lambda images: images,
    "reversed": lambda images: images[..., ::-1, ::-1, :],
    "strided": lambda images: np.repeat(images, 2, axis=-2)[..., ::2, :],
    "planes in memory": lambda images: np.moveaxis(np.moveaxis(images, -1, -3).copy(), -3, -1),
    "read-only": lambda images: np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_results_are_of_the_library_of_the_argument(library, shape):
    make, kind = LIBRARIES[library]
    images = pixels(*shape)
    planes = ib.normalise(make(images), mean=MEAN, std=STD)
    assert isinstance(planes, kind)
    planes = np.asarray(planes)
    assert (planes.dtype, planes.shape) == (np.float32, expected(images).shape)
    np.testing.assert_allclose(planes, expected(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_values(layout):
    images = LAYOUTS[layout](pixels(2, 4, 5, 3))
    planes = ib.normalise(images, mean=MEAN, std=STD)
    np.testing.assert_allclose(planes, expected(images), rtol=1e-5, atol=1e-6)
    assert planes.flags.c_contiguous and planes.flags.writeable
    means = images.astype(np.float64).reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(ib.channel_means(images), means)


def test_results_do_not_share_the_memory_of_the_argument():
    images = pixels(4, 5, 3)
    planes = ib.normalise(images)
    before = planes.copy()
    images[:] = 0
    assert (planes == before).all()


def test_numpy_owns_its_results_and_resizes_them():
    planes = ib.normalise(pixels(4, 5, 3))
    assert planes.flags.owndata and planes.base is None
    first = planes[0, 0, 0].item()
    planes.resize((6, 4, 5), refcheck=False)
    assert planes[0, 0, 0] == first and (planes[3:] == 0).all()


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_channel_means_reads_the_argument(library):
    images = pixels(2, 8, 9, 3)
    means = ib.channel_means(LIBRARIES[library][0](images))
    np.testing.assert_allclose(means, images.reshape(-1, 3).mean(axis=0))


# What is wrong, and a part of the message. The name of the argument is in each message, or in a note.
WRONG = {
    "float32": (np.zeros((4, 5, 3), np.float32), TypeError, "expected uint8, got float32"),
    "torch int64": (torch.zeros(4, 5, 3, dtype=torch.int64), TypeError, "got int64"),
    "rank 2": (np.zeros((4, 3), np.uint8), ValueError, "got [4, 3]"),
    "rank 5": (np.zeros((1, 1, 4, 5, 3), np.uint8), ValueError, "got [1, 1, 4, 5, 3]"),
    "four channels": (np.zeros((4, 5, 4), np.uint8), ValueError, "got [4, 5, 4]"),
    "rank 0": (np.zeros((), np.uint8), ValueError, "got []"),
    "meta": (torch.zeros(4, 5, 3, dtype=torch.uint8, device="meta"), BufferError, "meta"),
    "sparse": (torch.ones(4, 3, dtype=torch.uint8).to_sparse(), BufferError, "to_dense()"),
    "strings": (np.array(["a"]), BufferError, ""),
    "a list": ([[1, 2, 3]], (TypeError, AttributeError), "list"),
    "a number": (3, (TypeError, AttributeError), "int"),
    "None": (None, TypeError, "got None"),
    "a class": (np.ndarray, TypeError, "class"),
}


@pytest.mark.parametrize("function", [ib.normalise, ib.channel_means])
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_arguments_are_named(kind, function):
    images, error, part = WRONG[kind]
    with pytest.raises(error) as raised:
        function(images)
    text = "\n".join([str(raised.value), *getattr(raised.value, "__notes__", [])])
    assert part in text and "images" in text, text


def test_a_batch_is_an_array_for_every_library():
    images = pixels(2, 4, 5, 3)
    batch = ib.Batch(images, ["cat", "dog"])
    address = images.ctypes.data
    assert batch.labels == ["cat", "dog"] and batch.__dlpack_device__() == (1, 0)
    assert np.from_dlpack(batch).ctypes.data == address
    assert torch.from_dlpack(batch).data_ptr() == address
    assert jnp.from_dlpack(batch, copy=True).shape == images.shape
    assert batch.images.data_ptr() == ib.Batch(batch).images.data_ptr() == address
    assert type(ib.Batch.__dlpack_c_exchange_api__).__name__ == "PyCapsule"
    assert np.from_dlpack(batch, copy=True).ctypes.data != address


def test_a_batch_keeps_the_memory():
    images = pixels(2, 4, 5, 3)
    values, count = images.copy(), sys.getrefcount(images)
    taken = torch.from_dlpack(ib.Batch(images))
    assert sys.getrefcount(images) > count
    del images
    assert (taken.numpy() == values).all()


def test_tvm_ffi_takes_a_batch_through_its_table():
    tvm_ffi = pytest.importorskip("tvm_ffi")
    images = pixels(2, 4, 5, 3)
    taken = tvm_ffi.from_dlpack(ib.Batch(images))
    assert np.from_dlpack(taken).ctypes.data == images.ctypes.data


def test_objects_of_the_package_and_of_the_module_are_taken_by_each_other():
    dl = pytest.importorskip("dlbridge")
    images = pixels(4, 5, 3)
    ours, theirs = ib.Batch(images).images, dl.from_numpy(images)
    assert type(ours) is ib.Tensor and ib.Tensor.__module__.startswith("image_batches")
    assert dl.from_dlpack(ours).data_ptr() == images.ctypes.data
    assert ib.Batch(theirs).images.data_ptr() == images.ctypes.data


def test_other_threads_run_while_normalise_computes():
    images = pixels(8, 512, 512, 3)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    try:
        for _ in range(50):
            gate, ran = threading.Lock(), []
            gate.acquire()
            other = threading.Thread(
                target=lambda gate=gate, ran=ran: gate.acquire() and ran.append(1)
            )
            other.start()
            gate.release()
            ib.normalise(images)
            seen = bool(ran)
            other.join()
            if seen:
                return
    finally:
        sys.setswitchinterval(interval)
    pytest.fail("normalise does not detach the thread")
