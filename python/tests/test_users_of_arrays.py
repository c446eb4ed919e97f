"""Functions of other libraries that users pass a Tensor to: each works, or names the remedy."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

import dlbridge as dl


def read_only(array):
    array = np.array(array)
    array.flags.writeable = False
    return dl.from_numpy(array)


def test_functions_of_pytorch_share_the_memory():
    t = dl.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.stack([t, t]).tolist() == [t.tolist()] * 2
    assert torch.stack((t, torch.zeros(2, 2, dtype=torch.float64))).shape == (2, 2, 2)
    assert torch.cat(tensors=[t, t], dim=1).shape == (2, 4)
    assert torch.stack([t], out=torch.empty(0, dtype=torch.float64)).tolist() == [t.tolist()]
    assert torch.nn.functional.relu(t).tolist() == t.tolist() and torch.sum(t) == 10
    assert torch.t(t).data_ptr() == t.data_ptr()
    torch.add(t, 1, out=t)
    assert t.tolist() == [[2.0, 3.0], [4.0, 5.0]]
    x = torch.zeros(2, 2)
    x.copy_(t)
    assert x.tolist() == t.tolist() and (x + t).tolist() == (t + x).tolist() == (2 * x).tolist()
    x[0] = dl.tensor([7.0, 8.0])
    assert x[0].tolist() == [7.0, 8.0] and torch.equal(t, t)
    assert torch.einsum("ij,jk->ik", t, t).shape == (2, 2)
    assert torch.nn.Linear(2, 1, dtype=torch.float64)(t).shape == (2, 1)


def test_functions_of_pytorch_fail_with_a_remedy():
    constant, reverse = read_only([1.0, 2.0]), dl.from_numpy(np.arange(2.0)[::-1])
    for call in torch.stack, torch.cat:
        with pytest.raises(BufferError, match=r"use clone\(\)\.torch\(\)"):
            call([constant])
        with pytest.raises(ValueError, match=r"use clone\(\)\.torch\(\)"):
            call([reverse])
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        torch.stack([dl.tensor([1]), dl.tensor([1, 2])])
    x = torch.zeros(3)
    moved = dl.from_dlpack(x)
    x.share_memory_()
    with pytest.raises(BufferError, match="moved"):
        torch.stack([moved])
    with pytest.raises(TypeError):
        dl.tensor([1]) + 1
    assert not torch.is_tensor(constant)


def test_torch_function_with_arguments_of_its_own():
    t = dl.tensor([1.0])
    seen = []

    def function(*args, **kwargs):
        seen.append((args, kwargs))
        return len(args)

    nested = [[[[[[[[[[[t]]]]]]]]]]]
    kwargs = {"a": t, "b": {"c": (t, 5)}}
    assert dl.Tensor.__torch_function__(function, (), (t, [t], nested), kwargs) == 3
    ((x, (y,), deep), named) = seen[0]
    assert all(isinstance(found, torch.Tensor) for found in (x, y, named["a"], named["b"]["c"][0]))
    while isinstance(deep, list):
        (deep,) = deep
    assert deep is t and kwargs["a"] is t
    endless = []
    endless.append(endless)
    assert dl.Tensor.__torch_function__(function, (), (endless,)) == 1
    with pytest.raises(TypeError):
        dl.Tensor.__torch_function__(function, (), [t])
    with pytest.raises(TypeError):
        dl.Tensor.__torch_function__(None, (), (t,))

    class Other:
        calls = 0

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            cls.calls += 1
            assert not any(isinstance(arg, dl.Tensor) for arg in args)
            return "other"

    assert torch.add(t, Other()) == "other" and Other.calls == 1


def test_what_pytorch_does_not_pass_on():
    t = dl.tensor([[1.0, 2.0]])
    assert torch.as_tensor(t).data_ptr() == t.data_ptr() and torch.tensor(t).shape == (1, 2)
    assert torch.from_dlpack(t).data_ptr() == t.data_ptr()
    with pytest.raises(RuntimeError, match="Could not infer dtype"):
        torch.tensor([t])


def test_a_tensor_dataset_refuses_tensors_and_names_the_remedy():
    t = dl.tensor([[1.0, 2.0]])
    with pytest.raises(AttributeError, match=r"no attribute 'size'.*torch\(\)"):
        TensorDataset(t)
    assert TensorDataset(t.torch())[0][0].tolist() == [1.0, 2.0]
    assert not hasattr(t, "size")


def test_indexing_names_the_remedy():
    t = dl.tensor([[1.0, 2.0]])
    for index in 0, ..., None, (0, 0), slice(None), "a":
        with pytest.raises(TypeError, match=r"not subscriptable: index numpy\(\) or torch\(\)"):
            _ = t[index]
    with pytest.raises(TypeError):
        t[0] = 1.0


def test_default_collate_refuses_and_collate_takes_tensors():
    with pytest.raises(TypeError, match=r"must contain tensors, .*found <class 'dlbridge.Tensor'>"):
        default_collate([dl.tensor([1.0])])
    batch = dl.collate([dl.tensor([1, 2]), dl.tensor([3, 4])])
    assert isinstance(batch, torch.Tensor) and batch.tolist() == [[1, 2], [3, 4]]
    samples = [
        {"x": dl.tensor([float(i)]), "y": (i, np.zeros(2), [torch.ones(1)], "a")} for i in range(3)
    ]
    batch = dl.collate(samples)
    assert batch["x"].tolist() == [[0.0], [1.0], [2.0]] and batch["y"][0].tolist() == [0, 1, 2]
    assert batch["y"][1].shape == (3, 2) and batch["y"][2][0].shape == (3, 1)
    assert batch["y"][3] == ("a", "a", "a")
    odd = [read_only([1.0, 2.0]), dl.from_numpy(np.arange(2.0)[::-1]), dl.tensor([5.0, 6.0])]
    assert dl.collate(odd).tolist() == [[1.0, 2.0], [1.0, 0.0], [5.0, 6.0]]
    assert dl.collate([torch.ones(2), torch.ones(2)]).shape == (2, 2)
    with pytest.raises(RuntimeError, match="equal size"):
        dl.collate([dl.tensor([1]), dl.tensor([1, 2])])
    with pytest.raises(TypeError):
        dl.collate([object()])
    with pytest.raises(TypeError):
        default_collate([dl.tensor([1.0])])  # nothing was registered


class Samples(Dataset):
    def __init__(self, tensors=None):
        self.tensors = tensors

    def __len__(self):
        return 4

    def __getitem__(self, index):
        tensor = dl.tensor([index, index + 1]) if self.tensors is None else self.tensors[index]
        return {"x": tensor, "index": index}


@pytest.mark.parametrize("context", [None, "fork", "spawn"])
def test_a_data_loader_with_collate(context):
    workers = {} if context is None else {"num_workers": 2, "multiprocessing_context": context}
    loader = DataLoader(Samples(), batch_size=2, collate_fn=dl.collate, **workers)
    batches = list(loader)
    assert [b["x"].tolist() for b in batches] == [[[0, 1], [1, 2]], [[2, 3], [3, 4]]]
    assert all(b["x"].is_shared() == (context is not None) for b in batches)
    assert pickle.loads(pickle.dumps(dl.collate)) is dl.collate


def test_a_data_loader_that_pins_memory():
    try:
        dl.tensor([1]).pin_memory()
    except BufferError as error:
        pytest.skip(f"no CUDA device: {error}")
    loader = DataLoader(Samples(), batch_size=2, collate_fn=dl.collate, pin_memory=True)
    assert next(iter(loader))["x"].is_pinned()


@pytest.mark.parametrize(
    ("x", "spec"),
    [(1.25, ".1f"), (5, "x"), (5, ">8"), (2.5, "e"), (True, "d"), (1 + 2j, ".1f"), (-3, "+,")],
)
def test_formats_of_one_element(x, spec):
    for tensor in dl.tensor(x), dl.tensor([[x]]):
        assert format(tensor, spec) == format(x, spec)
        assert f"{tensor}" == str(tensor) == format(tensor, "")
        assert f"{tensor:{spec}}" == format(x, spec)


def test_formats_of_other_tensors():
    for tensor in dl.tensor([1.0, 2.0]), dl.tensor([]):
        assert f"{tensor}" == repr(tensor)
        with pytest.raises(TypeError, match=r"format '\.1f' needs one element, .* has [02]"):
            format(tensor, ".1f")
    with pytest.raises(ValueError, match="format"):
        format(dl.tensor(1.0), "x")
    with pytest.raises(ValueError, match="format"):
        format(dl.tensor(1), "no such format")
    with pytest.raises(TypeError):
        dl.tensor(1).__format__(5)
    with pytest.raises(TypeError, match="no numbers of type"):
        format(dl.from_dlpack(torch.zeros(1, dtype=torch.float8_e5m2)), ".1f")
    x = torch.zeros(1)
    moved = dl.from_dlpack(x)
    x.share_memory_()
    with pytest.raises(BufferError, match="moved"):
        format(moved, ".1f")


def test_length_and_iteration_are_those_of_arrays_but_items_are_copies():
    array = np.arange(6.0).reshape(2, 3)
    tensor = dl.from_numpy(array)
    assert len(tensor) == len(array) == 2
    rows = list(tensor)
    assert rows == [row.tolist() for row in array] and 4.0 in rows[1]
    rows[0][0] = 9.0
    assert array[0, 0] == 0.0
    assert [*dl.tensor([1, 2])] == [1, 2] and sum(dl.tensor([1, 2])) == 3
    assert not isinstance(tensor, (list, tuple)) and not hasattr(tensor, "__setitem__")


def test_tobytes():
    tensor = dl.from_numpy(np.arange(6, dtype=np.int16).reshape(2, 3).T)
    assert tensor.tobytes() == bytes(tensor) == tensor.numpy().tobytes()


def test_series_of_pandas():
    pd = pytest.importorskip("pandas")
    tensor = dl.tensor([1.5, 2.5])
    for series in pd.Series(tensor), pd.DataFrame({"a": tensor})["a"]:
        assert series.dtype == tensor.dtype and series.tolist() == [1.5, 2.5]
    assert pd.DataFrame(dl.tensor([[1, 2], [3, 4]])).shape == (2, 2)
    assert pd.Series([1], dtype=dl.tensor([1]).dtype).dtype == "int64"
    with pytest.raises(ValueError, match="1-dimensional"):
        pd.Series(dl.tensor([[1.0]]))
    for wrong in pd.array, pd.Index:
        with pytest.raises((TypeError, ValueError)):
            wrong(tensor)
        assert list(wrong(tensor.numpy())) == [1.5, 2.5]
    assert dl.from_dlpack(pd.Series([1.0, 2.0]).to_numpy()).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("view", [np.s_[:], np.s_[:, ::2], np.s_[::-1], np.s_[:, 1:]])
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3)])
def test_images_of_pillow(view, shape):
    Image = pytest.importorskip("PIL.Image")
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)[view]
    image = Image.fromarray(dl.from_numpy(array))
    assert np.asarray(image).tolist() == array.tolist()
    for wrong in dl.tensor(np.zeros((2, 2, 5), np.uint8)), dl.tensor([[1j]]):
        with pytest.raises(TypeError, match="Cannot handle this data type"):
            Image.fromarray(wrong)


def test_arrays_of_dask():
    da = pytest.importorskip("dask.array")
    tensor = dl.tensor([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(TypeError, match=r"index numpy\(\) or torch\(\)"):
        da.from_array(tensor).compute()
    assert da.from_array(tensor.numpy(), chunks=1).sum().compute() == 10.0


@pytest.mark.parametrize("make", ["numpy", "torch", "jax"])
def test_memory_formats_of_copies(make):
    def of(array):
        if make == "jax":
            return pytest.importorskip("jax.numpy").asarray(array)
        return torch.from_numpy(array) if make == "torch" else array

    def strides(x):
        return dl.from_dlpack(x).stride()

    images, volumes = np.zeros((2, 3, 4, 5), np.float32), np.zeros((2, 3, 4, 5, 6), np.float32)
    images[...] = np.arange(images.size, dtype=np.float32).reshape(images.shape)
    formats = [("contiguous_format", (60, 20, 5, 1)), ("channels_last", (60, 1, 15, 3))]
    for function in dl.clone, dl.contiguous:
        for name, expected in formats if make != "jax" else formats[:1]:
            for given in name, getattr(torch, name):
                copied = function(of(images), memory_format=given)
                assert type(copied) is type(of(images)) and strides(copied) == expected
                assert np.array_equal(dl.from_dlpack(copied).numpy(), images)
        if make != "jax":
            copied = function(of(volumes), memory_format="channels_last_3d")
            assert strides(copied) == (360, 1, 90, 18, 3)
    last = of(images)
    if make == "numpy":
        last = images.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
        copied = dl.clone(images, memory_format="channels_last")
        assert copied.flags.owndata and dl.clone(last).strides == last.strides
    elif make == "torch":
        last = last.to(memory_format=torch.channels_last)
    if make != "jax":
        assert dl.contiguous(last, memory_format="channels_last") is last
        assert strides(dl.contiguous(last)) == (60, 20, 5, 1)
    with pytest.raises(
        ValueError, match="'channels_last' is for 4 dimensions, and the tensor has 5"
    ):
        dl.clone(of(volumes), memory_format="channels_last")
    with pytest.raises(
        ValueError, match=r"contiguous\(\) does not take 'preserve_format': use clone"
    ):
        dl.contiguous(of(images), memory_format=torch.preserve_format)
    for wrong in "rows", 5, torch.float32:
        with pytest.raises(ValueError, match="is not supported"):
            dl.clone(of(images), memory_format=wrong)


@pytest.mark.parametrize(
    "shape", [(1, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 1), (0, 3, 4, 5), (2, 3, 0, 5)]
)
def test_memory_formats_of_small_dimensions(shape):
    array = np.ones(shape, ">f4")
    for x in array, array.astype("f4"), array.astype("f4").transpose(0, 1, 3, 2):
        copied = dl.clone(x, memory_format="channels_last")
        assert copied.shape == x.shape and copied.dtype == "f4" and (copied == 1).all()
        x = torch.from_numpy(x.astype("f4"))
        ordered = dl.contiguous(x, memory_format=torch.channels_last)
        assert ordered.is_contiguous(memory_format=torch.channels_last) or not x.numel()
        copied = dl.from_dlpack(x).clone(memory_format="channels_last")
        assert copied.contiguous(memory_format="channels_last") is copied


def test_memory_formats_of_tensors_and_buffers():
    tensor = dl.tensor(np.arange(120).reshape(2, 3, 4, 5))
    last = tensor.contiguous(memory_format="channels_last")
    assert last.stride() == (60, 1, 15, 3) and last.tolist() == tensor.tolist()
    assert (
        last.contiguous(memory_format=torch.channels_last) is last and last.contiguous() is not last
    )
    assert tensor.contiguous(memory_format="contiguous_format") is tensor
    with pytest.raises(ValueError, match="preserve_format"):
        tensor.contiguous(memory_format="preserve_format")
    view = memoryview(bytearray(120)).cast("B", (2, 3, 4, 5))
    assert dl.clone(view, memory_format="channels_last").strides == (60, 1, 15, 3)
    with pytest.raises(TypeError):
        dl.clone(tensor, "channels_last")
