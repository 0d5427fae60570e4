"""What the ops are measured beside: torch, its compiler, and kernels of other packages."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
import torch.nn.functional as F

import isample  # noqa: F401  (registers torch.ops.isample)
from isample.ops.reference import plain_importance_sample, plain_softmax_score

from .timing import Alternative

ops = torch.ops.isample


def scorers(large: bool) -> dict[str, list[Alternative]]:
    """op -> its alternatives, isample first; each is called with (logits, labels, tau_ema)."""
    score = [
        Alternative("isample", lambda z, y, ema: ops.softmax_score(z, y)),
        Alternative(
            "torch cross_entropy alone", lambda z, y, ema: F.cross_entropy(z, y, reduction="none")
        ),
    ]
    sample = [Alternative("isample", lambda z, y, ema: ops.importance_sample(z, y, kept(z), ema))]
    if not large:
        torch._dynamo.reset()  # after eight shapes of one function it would give up, and not say so
        compiled = torch.compile(torch_score, dynamic=False)
        score += [
            Alternative("torch", lambda z, y, ema: torch_score(z, y)),
            Alternative("torch.compile", lambda z, y, ema: compiled(z, y)),
        ]
        sample.append(
            Alternative(
                "torch", lambda z, y, ema: plain_importance_sample(z.float(), y, kept(z), ema)
            )
        )
    return {"importance_sample": sample, "softmax_score": score}


def torch_score(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """In float32, as isample's."""
    return plain_softmax_score(logits.float(), labels)


def kept(logits: torch.Tensor) -> int:
    return max(1, min(len(logits), 4096) // 5)


def foreign() -> list[Alternative]:
    """Other packages' losses, those that are installed; called as the scorers. An illegal access of
    theirs makes every later call of the process fail, so they must come last."""
    found = []
    if importlib.util.find_spec("liger_kernel"):
        found.append(Alternative("Liger cross_entropy alone", liger(), False, own_inputs=True))
    if importlib.util.find_spec("quack"):
        found.append(Alternative("QuACK cross_entropy alone", quack()))
    return found


def liger() -> Callable:
    """It writes the gradient over its logits, and reads the number of labels back. Imported by the
    call, so that what keeps it from loading costs its own line alone."""

    def call(z, y, ema):
        from liger_kernel.ops.cross_entropy import LigerCrossEntropyFunction

        return LigerCrossEntropyFunction.apply(z, y, None)

    return call


def quack() -> Callable:
    def call(z, y, ema):
        from quack.cross_entropy import cross_entropy_fwd

        return cross_entropy_fwd(z, y)

    return call


def losses() -> list[Alternative]:
    """A loss and its gradient at the logits; isample's is that of an active step, with weights and
    scores."""

    def ours(z, y, weights):
        loss, score = ops.cross_entropy(z, y, weights)
        return torch.autograd.grad(loss, z)[0], score

    def torchs(z, y, weights):
        return torch.autograd.grad(F.cross_entropy(z, y), z)[0]

    return [Alternative("isample", ours), Alternative("torch", torchs)]
