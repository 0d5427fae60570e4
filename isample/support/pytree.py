"""Batches as users have them: a tensor, or tuples, lists and dicts of tensors, all with the samples
along dim 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree


def map_tensors(function: Callable[[torch.Tensor], torch.Tensor], batch: Any) -> Any:
    """``batch`` with ``function`` applied to every tensor in it."""
    if isinstance(batch, torch.Tensor):  # the common cases, without the walk
        return function(batch)
    if type(batch) in (tuple, list):
        return type(batch)([map_tensors(function, part) for part in batch])
    return pytree.tree_map_only(torch.Tensor, function, batch)


def batch_length(batch: Any, name: str) -> int:
    """The number of samples in ``batch``; every tensor in it must agree.

    Raises ValueError naming ``name`` if there is no tensor, a tensor has no dimension, or lengths
    differ.
    """
    if isinstance(batch, torch.Tensor) and batch.dim() > 0:  # the common case, without the walk
        return batch.shape[0]
    leaves = pytree.tree_leaves(batch)
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if not tensors:
        raise ValueError(
            f"{name} must be a tensor, or a tuple, list or dict of tensors; "
            f"got {type(batch).__name__}"
        )
    if any(tensor.dim() == 0 for tensor in tensors):
        raise ValueError(
            f"{name} must hold the samples along dim 0 of every tensor; got a 0-dim tensor"
        )
    lengths = sorted({tensor.shape[0] for tensor in tensors})
    if len(lengths) > 1:
        raise ValueError(f"{name} must have as many samples in every tensor; got lengths {lengths}")
    return lengths[0]


def check_batch(inputs: Any, targets: Any, device: torch.device) -> int:
    """The number of samples, once all is found in order."""
    size = batch_length(inputs, "inputs")
    if size == 0:
        raise ValueError("inputs must hold at least one sample; got 0")
    if batch_length(targets, "targets") != size:
        raise ValueError(
            f"targets must hold as many samples as inputs ({size}); "
            f"got {batch_length(targets, 'targets')}"
        )

    def check_device(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device != device:
            raise ValueError(
                f"inputs and targets must be on the model's device ({device}); got {tensor.device}"
            )
        return tensor

    for part in (inputs, targets):
        map_tensors(check_device, part)
    return size


def check_holds(inputs: Any, size: int) -> None:
    """Raises ValueError where ``inputs`` are not ``size`` samples."""
    held = batch_length(inputs, "inputs")
    if held != size:
        raise ValueError(
            f"inputs must hold all {size} samples that were drawn; got {held} (collate_fn must "
            "leave none out)"
        )


def take(batch: Any, which: torch.Tensor | slice) -> Any:
    """The samples ``which`` of a batch.

    Raises TypeError for what is not a tensor and not one value for all samples: it cannot be cut.
    """
    if isinstance(batch, torch.Tensor):
        return _cut(batch, which)

    def cut(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return _cut(leaf, which)
        if leaf is None or isinstance(leaf, bool | int | float):
            return leaf
        raise TypeError(
            f"batch must hold tensors where samples are chosen of it; got {type(leaf).__name__} "
            "(make it a tensor in collate_fn, or leave it out)"
        )

    return pytree.tree_map(cut, batch)


def _cut(tensor: torch.Tensor, which: torch.Tensor | slice) -> torch.Tensor:
    if isinstance(which, torch.Tensor) and which.device != tensor.device:
        which = which.to(tensor.device)
    return tensor[which]


def join(batches: list[Any]) -> Any:
    """Concatenates batches of one structure along dim 0."""
    if len(batches) == 1:
        return batches[0]
    leaves, specs = zip(*(pytree.tree_flatten(batch) for batch in batches))
    if any(spec != specs[0] for spec in specs):
        raise ValueError(
            f"batches of a loader must share one structure; got {specs[0]} and another"
        )
    joined = [
        torch.cat(parts) if isinstance(parts[0], torch.Tensor) else parts[0]
        for parts in zip(*leaves)
    ]
    return pytree.tree_unflatten(joined, specs[0])


def as_pair(batch: Any, loader: str = "loader") -> tuple[Any, Any]:
    """``batch`` as (inputs, targets); raises TypeError for another form."""
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    got = type(batch).__name__
    if isinstance(batch, tuple | list):
        got = f"a {got} of {len(batch)}"
    elif isinstance(batch, dict):
        got = f"a dict with {', '.join(map(repr, batch))}"
    raise TypeError(
        f"{loader} must yield (inputs, targets); got {got} (return such a pair in the data set or "
        "in collate_fn; several inputs go as a tuple or dict, as in ((a, b), targets))"
    )


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """``model(inputs)``; a tuple or list gives positional arguments, a dict keyword arguments."""
    if isinstance(inputs, dict):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


def logits_of(model: Callable[..., Any], inputs: Any, batch: int) -> torch.Tensor:
    """The model's output on ``inputs``, checked to be one floating tensor with ``batch`` rows."""
    logits = call(model, inputs)
    if not isinstance(logits, torch.Tensor):
        raise TypeError(
            f"model must return a tensor of logits; got {type(logits).__name__} (train a module "
            "whose forward returns that tensor alone, such as outputs['logits'] or outputs[0])"
        )
    if not logits.is_floating_point():
        raise TypeError(f"model must return floating-point logits; got dtype {logits.dtype}")
    if logits.dim() == 0 or logits.shape[0] != batch:
        raise ValueError(
            f"model must return one row of logits a sample; "
            f"got shape {tuple(logits.shape)} for {batch} samples"
        )
    return logits
