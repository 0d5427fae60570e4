"""Walks over batches as users have them: tensors, what else holds samples, and any nesting of both.

See :mod:`isample.support.batch_forms` for what a batch is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import torch

from isample.support.batch_forms import form_of, in_common, lengths, placed_lengths


def map_tensors(function: Callable[[torch.Tensor], torch.Tensor], batch: Any) -> Any:
    """``batch`` with ``function`` applied to every tensor in it; every container is a new one."""
    if isinstance(batch, torch.Tensor):  # the common cases, without the walk
        return function(batch)
    if type(batch) in (tuple, list):
        return type(batch)([map_tensors(function, part) for part in batch])
    form = form_of(type(batch))
    if form.kind is not None:
        return batch if form.kind.map is None else form.kind.map(function, batch)
    if form.open is None:
        return batch
    parts = form.open(batch)
    return parts.made_of([map_tensors(function, part) for part in parts.values])


def tensors_in(batch: Any) -> list[torch.Tensor]:
    """All tensors in it, in their order."""
    found: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    map_tensors(note, batch)
    return found


def copy_arrays(function: Callable[[torch.Tensor], torch.Tensor], batch: Any) -> Any:
    """:func:`map_tensors`, with numpy's arrays copied."""
    if isinstance(batch, torch.Tensor):
        return function(batch)
    if isinstance(batch, numpy.ndarray):
        return batch.copy()
    form = form_of(type(batch))
    if form.open is None:
        return map_tensors(function, batch)
    parts = form.open(batch)
    return parts.made_of([copy_arrays(function, part) for part in parts.values])


def batch_length(batch: Any, name: str) -> int:
    """The number of samples in ``batch``; all that holds samples must agree.

    Raises ValueError naming ``name`` if nothing does, a tensor has no dimension, or lengths differ.
    """
    if isinstance(batch, torch.Tensor) and batch.dim() > 0:  # the common cases, without the walk
        return batch.size(0)
    if type(batch) in (tuple, list):
        size = _length_of_tensors(batch)
        if size is not None:
            return size
    form = form_of(type(batch))
    # The outermost list is structure: what it holds could not be told from a list of samples.
    found = in_common(map(lengths, batch)) if form.is_list else lengths(batch)
    if found is None:
        raise ValueError(
            f"{name} must be a tensor, or a tuple, list or dict of tensors; "
            f"got {type(batch).__name__}"
        )
    if not found:
        raise _disagreement(batch, name)
    return found[0]


def _length_of_tensors(batch: Any) -> int | None:
    """That of a list of tensors alone, if they agree."""
    size = None
    for tensor in batch:
        if not isinstance(tensor, torch.Tensor) or tensor.dim() == 0:
            return None
        if size is None:
            size = tensor.size(0)
        elif size != tensor.size(0):
            return None
    return size


def _disagreement(batch: Any, name: str) -> ValueError:
    placed = placed_lengths(batch)
    if not all(found for _, found in placed):
        return ValueError(
            f"{name} must hold the samples along dim 0 of every tensor; got a 0-dim tensor"
        )
    got = sorted({found[0] for _, found in placed if found})
    where = ", ".join(f"{place or 'all'}: {found[0]}" for place, found in placed[:8] if found)
    return ValueError(
        f"{name} must have as many samples in every tensor; got lengths {got} ({where}; every list "
        "counts that holds one thing a sample; see isample.register_batch_kind for others)"
    )


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
    if isinstance(inputs, torch.Tensor) and inputs.dim() and inputs.size(0) == size:
        return  # the common cases, without the walk
    if type(inputs) in (tuple, list) and _length_of_tensors(inputs) == size:
        return
    if size in (lengths(inputs) or ()):  # a list may also hold one thing a sample
        return
    held = batch_length(inputs, "inputs")
    if held != size:
        raise ValueError(
            f"inputs must hold all {size} samples that were drawn; got {held} (collate_fn must "
            "leave none out)"
        )


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
