"""Batches for `torch.utils.data.DataLoader`. PyTorch is imported when `collate` is called."""


def _to_torch(tensor):
    try:
        return tensor.torch()
    except (BufferError, ValueError):  # read-only memory, negative strides
        return tensor.clone().torch()


def collate(batch, /):
    """Joins samples to a batch as PyTorch's `default_collate` does, and also takes Tensors.

    It is for `torch.utils.data.DataLoader(..., collate_fn=dlbridge.collate)`. Samples may be what
    `default_collate` takes, Tensors, and tuples, lists and dicts of these. Tensors of equal shape
    become one `torch.Tensor` with a new first dimension: PyTorch copies their elements once, in a
    worker process into shared memory. Read-only memory and negative strides cost a second copy.

    PyTorch is imported when this function is called. Nothing is registered in PyTorch, so
    `default_collate` itself still refuses Tensors.

    Raises the exceptions of PyTorch, for example RuntimeError for different shapes; TypeError for
    element types that PyTorch does not have; and ImportError if there is no PyTorch.

    >>> samples = [(dl.tensor([1, 2]), "a"), (dl.tensor([3, 4]), "b")]
    >>> dl.collate(samples)
    [tensor([[1, 2],
            [3, 4]]), ('a', 'b')]
    """
    import torch
    from torch.utils.data._utils.collate import collate, default_collate_fn_map

    from . import Tensor

    def stack(tensors, *, collate_fn_map):
        tensors = [_to_torch(tensor) for tensor in tensors]
        return collate_fn_map[torch.Tensor](tensors, collate_fn_map=collate_fn_map)

    return collate(batch, collate_fn_map={**default_collate_fn_map, Tensor: stack})
