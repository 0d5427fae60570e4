"""How important a sample is: one non-negative score a sample, in proportion to which it is drawn.

upper_bound
    norm of the loss gradient at the last layer's pre-activations, from the forward pass alone
    (eq. 19)
loss
    the loss value, which is what most of the literature sorts by
gradient_norm
    the true norm of each sample's gradient over all trainable parameters: the ideal, and its price
callable
    ``f(logits, targets) -> [B]``
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import nn

from isample import ops
from isample.scoring.buffers import keep_buffers
from isample.scoring.counts import TINY, counts_of
from isample.scoring.losses import is_exactly, per_sample_loss
from isample.scoring.shapes import check_targets
from isample.support.interrupts import evaluation_mode
from isample.support.pytree import logits_of, map_tensors, tensors_in
from isample.support.registry import look_up


def upper_bound(loss: Callable[..., Any], logits: torch.Tensor, targets: Any) -> torch.Tensor:
    """The norm of each sample's loss gradient with respect to its logits (eq. 19), float32 [B].

    Closed forms for torch's cross-entropy, binary cross-entropy and squared error; the row norm of
    one ``autograd.grad`` at the logits for any other loss.

    Raises ValueError or TypeError for targets that torch would broadcast or cannot differentiate.
    """
    check_targets(loss, logits, targets)
    if isinstance(loss, nn.CrossEntropyLoss):
        return _cross_entropy_bound(loss, logits, targets)
    if is_exactly(loss, nn.BCEWithLogitsLoss) and loss.weight is None and loss.pos_weight is None:
        return _row_norm(torch.sigmoid(logits.float()) - targets, mean=True)
    if is_exactly(loss, nn.MSELoss):
        return _row_norm(2.0 * (logits.float() - targets), mean=True)
    with torch.enable_grad():
        wide = logits.dtype == torch.float64  # its targets are, too
        leaf = (logits.detach() if wide else logits.detach().float()).requires_grad_(True)
        (gradient,) = torch.autograd.grad(per_sample_loss(loss, leaf, targets).sum(), leaf)
    return _row_norm(gradient, mean=False)


def _row_norm(gradient: torch.Tensor, mean: bool) -> torch.Tensor:
    """Norms of the rows, divided by their length with ``mean``: the loss is then the mean over a
    row's elements."""
    rows = (gradient.flatten(1) if gradient.dim() > 1 else gradient.unsqueeze(1)).float()
    return torch.linalg.vector_norm(rows, dim=1) / (rows.shape[1] if mean else 1)


def cross_entropy_options(loss: nn.CrossEntropyLoss) -> dict[str, Any]:
    """The options of torch's module under the names that the ops give them."""
    return {
        "weight": loss.weight,
        "ignore_index": loss.ignore_index,
        "label_smoothing": loss.label_smoothing,
    }


def _cross_entropy_bound(
    loss: nn.CrossEntropyLoss, logits: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    options = cross_entropy_options(loss)
    if logits.dim() == 2:
        return ops.softmax_score(logits, targets, **options)[0]
    if logits.dim() < 2:
        raise ValueError(
            f"logits must be [B, C] or [B, C, ...] for cross_entropy; "
            f"got shape {tuple(logits.shape)}"
        )
    # The squares of a sample's positions add up. The sample's mean divides by what it counts.
    rows = logits.movedim(1, -1).reshape(-1, logits.shape[1])
    soft = targets.is_floating_point()
    flat_targets = (
        targets.movedim(1, -1).reshape(-1, logits.shape[1]) if soft else targets.reshape(-1)
    )
    score = ops.softmax_score(rows, flat_targets, **options)[0].view(logits.shape[0], -1)
    counts = counts_of(loss, targets)
    norm = torch.linalg.vector_norm(score, dim=1)
    return norm / score.shape[1] if counts is None else norm / counts.clamp(min=TINY).float()


def loss_value(loss: Callable[..., Any], logits: torch.Tensor, targets: Any) -> torch.Tensor:
    """Each sample's loss, float32 [B]. Its kernel twin for cross-entropy on [B, C] keeps its digits
    near zero."""
    if isinstance(loss, nn.CrossEntropyLoss) and logits.dim() == 2:
        return ops.softmax_score(logits, targets, **cross_entropy_options(loss))[1]
    return per_sample_loss(loss, logits, targets).float()


def gradient_norm(
    loss: Callable[..., Any], model: nn.Module, inputs: Any, targets: Any
) -> torch.Tensor:
    """The norm of each sample's gradient over all trainable parameters, float32 [B], by torch.func.

    Costs a backward pass and, for 16 samples at a time, a copy of the gradients each.
    """
    trainable = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    fixed = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    fixed.update({name: b.detach() for name, b in model.named_buffers()})

    def one_loss(parameters: dict, one_input: Any, one_target: Any) -> torch.Tensor:
        def forward(*args, **kwargs):
            return torch.func.functional_call(model, {**parameters, **fixed}, args, kwargs)

        as_batch = map_tensors(lambda tensor: tensor.unsqueeze(0), (one_input, one_target))
        return per_sample_loss(loss, logits_of(forward, as_batch[0], 1), as_batch[1]).sum()

    def one_square(parameters: dict, one_input: Any, one_target: Any) -> torch.Tensor:
        gradients = torch.func.grad(one_loss)(parameters, one_input, one_target)
        return reduce(add, (g.float().square().sum() for g in gradients.values()))

    squares = torch.func.vmap(
        one_square, in_dims=(None, 0, 0), randomness="different", chunk_size=16
    )
    return squares(trainable, inputs, targets).sqrt()


@dataclass(frozen=True)
class Score:
    """A way to score: ``from_logits`` needs logits alone, ``from_model`` a pass of the model."""

    name: str
    from_logits: Callable[..., Any] | None = None
    from_model: Callable[..., Any] | None = None


SCORES: dict[str, Score] = {
    "upper_bound": Score("upper_bound", from_logits=upper_bound),
    "loss": Score("loss", from_logits=loss_value),
    "gradient_norm": Score("gradient_norm", from_model=gradient_norm),
}


def make_score(score: str | Callable[..., Any]) -> Score:
    """The score of a name, or of a callable ``f(logits, targets) -> [B]``."""
    if isinstance(score, str):
        return look_up(SCORES, score, "score")
    if not callable(score):
        raise TypeError(f"score must be a name or a callable; got {type(score).__name__}")

    def from_logits(loss: Callable[..., Any], logits: torch.Tensor, targets: Any) -> torch.Tensor:
        before = _versions(logits, targets)
        with torch.no_grad():
            values = score(logits, targets)
        if _versions(logits, targets) != before:
            raise ValueError(
                "score must not write to logits or targets, which training goes on with; it did "
                "(clone what it writes to)"
            )
        if not isinstance(values, torch.Tensor) or values.shape != logits.shape[:1]:
            got = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
            raise ValueError(
                f"score must give one value a sample, shape ({logits.shape[0]},); got {got}"
            )
        return values.detach().float()

    return Score(getattr(score, "__name__", "callable"), from_logits=from_logits)


def _versions(*values: Any) -> list[int]:
    """Of all tensors; they count what was written to them."""
    return [tensor._version for tensor in tensors_in(values) if not tensor.is_inference()]


@contextmanager
def leaving_no_trace(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Context in which a pass changes nothing.

    The model is in evaluation mode, so BatchNorm is not updated, and autograd is off. On exit, also
    after an exception, the random state, all buffers and every module's own mode are put back.
    """
    put_back_buffers = keep_buffers(list(model.modules()))
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), evaluation_mode(model):
        try:
            yield
        finally:
            put_back_buffers()
