"""Who scores candidates: a model with a loss that isample knows, or the user's own objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from isample.scoring.forward import ScoringPass
from isample.scoring.lending import Lending
from isample.scoring.objective import Objective
from isample.scoring.rows import Rows
from isample.scoring.scores import leaving_no_trace
from isample.scoring.select import Selection, Selector
from isample.support.batch_cuts import take
from isample.support.clocks import start_timer
from isample.support.errors import NonFiniteScoreError
from isample.support.processes import unwrapped
from isample.support.pytree import as_pair, map_tensors

OBJECTIVE_CHUNK = 64  # samples: a CPU's caches hold their activations for most networks


class ScoredAhead(NamedTuple):
    """The logits [B, ...] of candidates that were scored before their step began.

    ``seconds`` reads how long that took.
    """

    logits: Tensor
    seconds: Callable[[], float]


class Scorer(Protocol):
    """Scores candidates and draws from them, leaving no trace in model, graph or random state."""

    def select(
        self, batch: Any, size: int, count: int, weights: Tensor | None
    ) -> tuple[Selection, Callable[[], float]]:
        """``count`` of ``size`` candidates that came with ``weights``.

        Also returns a reader of the seconds that scoring took.
        """
        ...


class ModelScorer:
    """Scores (inputs, targets) by a forward pass of ``model`` and the score of ``objective``."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        scoring_pass: ScoringPass,
        selector: Selector,
        shared: bool,
    ):
        self.model: nn.Module = unwrapped(model)
        self.objective: Objective = objective
        self.scoring_pass: ScoringPass = scoring_pass
        self.selector: Selector = selector
        self.shared: bool = shared
        self._to_score = Lending()

    def select(
        self,
        batch: Any,
        size: int,
        count: int,
        weights: Tensor | None,
        ahead: ScoredAhead | None = None,
    ) -> tuple[Selection, Callable[[], float]]:
        """``ahead`` has the candidates' logits, where they were scored before."""
        inputs, targets = as_pair(batch)
        device = self.selector.tau_ema.device
        with leaving_no_trace(self.scoring_pass.module(self.model), device):
            stop = start_timer(device)
            logits = None if ahead is None else ahead.logits
            if logits is None and self.objective.score.from_logits is not None:
                logits = self.scoring_pass.logits(self.model, inputs, size)
            try:
                selection = self._drawn(inputs, targets, logits, count, weights)
            except NonFiniteScoreError:
                if not self.shared:
                    raise
                selection = self.selector.all_of(self._scores(inputs, targets, logits), count)
            seconds = stop()
            return selection, seconds if ahead is None else lambda: seconds() + ahead.seconds()

    def _drawn(
        self, inputs: Any, targets: Any, logits: Tensor | None, count: int, weights: Tensor | None
    ) -> Selection:
        if logits is not None and weights is None and self.objective.fuses(logits):
            return self.selector.from_logits(self.objective, logits, targets, count)
        return self.selector.from_scores(self._scores(inputs, targets, logits), count, weights)

    def _scores(self, inputs: Any, targets: Any, logits: Tensor | None) -> Tensor:
        needed = inputs if logits is None else None
        with self._to_score.lent((needed, targets)) as (needed, targets):
            return self.objective.scores(self.model, needed, targets, logits)


class ObjectiveScorer:
    """Scores any batch by the user's own ``objective(model, batch)``, a reduced loss.

    The trunk runs without a graph. At the logits, which ``rows`` marks, a graph begins, and the
    loss's gradient there gives every row's norm: the upper bound, whatever the loss.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Callable[[nn.Module, Any], Tensor],
        rows: Rows,
        selector: Selector,
    ):
        self.model: nn.Module = model
        self.objective: Callable[[nn.Module, Any], Tensor] = objective
        self.rows: Rows = rows
        self.selector: Selector = selector
        self._is_checked = False
        self._to_objective = Lending()

    def select(
        self, batch: Any, size: int, count: int, weights: Tensor | None
    ) -> tuple[Selection, Callable[[], float]]:
        device = self.selector.tau_ema.device
        with leaving_no_trace(self.model, device):
            stop = start_timer(device)
            on_device = map_tensors(lambda tensor: tensor.to(device, non_blocking=True), batch)
            if not self._is_checked and size > 1:
                self._check_reduction(on_device, size)
                self._is_checked = True
            step = min(OBJECTIVE_CHUNK, size)
            parts = [
                self._scores(on_device, slice(at, at + step), size) for at in range(0, size, step)
            ]
            score = parts[0] if len(parts) == 1 else torch.cat(parts)
            return self.selector.from_scores(score, count, weights), stop()

    def _scores(self, batch: Any, part: slice, size: int) -> Tensor:
        """Of a part of a batch, float32: norms of the gradient rows, in units of a sample's own
        loss."""
        held = len(range(size)[part])
        chunk = batch if held == size else take(batch, part, size)
        with self.rows.scoring(held) as marked, self._to_objective.lent(chunk) as lent:
            return marked.scores(self.objective(self.model, lent))

    def _check_reduction(self, batch: Any, size: int) -> None:
        """Raises ValueError for a loss that is no mean over rows.

        Kept batches have other sizes than dealt ones, and their gradient must be as large.
        """
        half = size // 2
        whole = self._scores(batch, slice(size), size)[:half]
        part = self._scores(batch, slice(half), size)
        if not torch.allclose(whole, part, rtol=1e-2, atol=1e-6 * float(whole.max())):
            raise ValueError(
                "objective must be a mean over the rows of the logits, or over what counts= says "
                "each row holds; got a loss whose row gradients are others in half a batch (a sum, "
                "a mean over tokens without counts, or a loss that mixes rows)"
            )
