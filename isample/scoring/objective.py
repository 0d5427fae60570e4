"""A loss and a score that isample knows, of a model's outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from isample import ops
from isample.ops.scores import mean_cross_entropy
from isample.scoring.contradicted import contradicted_above
from isample.scoring.counts import TINY, MeanCount, counts_of, is_ratio, shows_at_a_glance
from isample.scoring.losses import Loss, is_exactly, make_loss, mean_loss, sums, terms_of
from isample.scoring.scores import (
    SCORES,
    Score,
    cross_entropy_options,
    leaving_no_trace,
    make_score,
)
from isample.support.devices import is_read_freely, ops_run_on


class Objective:
    """What a model is trained for; arguments are those of :class:`isample.Trainer`."""

    def __init__(self, loss: Loss, score: str | Callable[..., Any] = "upper_bound"):
        self.loss: Callable[..., Tensor] = make_loss(loss)
        self.score: Score = make_score(score)
        self.mean_count: MeanCount = MeanCount()
        self._shows = shows_at_a_glance(self.loss)
        self._is_torchs = is_exactly(self.loss, nn.CrossEntropyLoss)
        self._may_be_ratio = isinstance(self.loss, nn.CrossEntropyLoss | nn.NLLLoss)
        self._mean = mean_loss(self.loss)

    @property
    def contradicted(self) -> float | None:
        """The score above which a label is contradicted; None where scores have no such bound."""
        return contradicted_above(self.score, self.loss)

    def mean(
        self, logits: Tensor, targets: Any, weights: Tensor | None = None, *, notes: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The mean of ``weights`` times the losses, differentiable, 0-dim; and the scores, float32
        [b], where the same op gives them, else None.

        Without weights it is torch's own ``reduction="mean"``, and 0 where nothing counts. With
        them it estimates that of the data, see :mod:`isample.scoring.counts`; ``notes`` says
        whether a batch without weights adds to the mean count that this needs.
        """
        is_fused = self._is_torchs and self.fuses(logits) and ops_run_on(logits.device)
        if self._may_be_ratio and not targets.is_floating_point():
            if weights is None:
                return self._ratio(logits, targets, is_fused, notes)
            return self._estimated_ratio(logits, targets, weights, is_fused)
        if is_fused:
            return self._fused(logits, targets, weights)
        return self._mean(logits, targets, weights), None

    def _ratio(
        self, logits: Tensor, targets: Tensor, is_fused: bool, notes: bool
    ) -> tuple[Tensor, Tensor | None]:
        if is_fused:
            options = cross_entropy_options(cast(nn.CrossEntropyLoss, self.loss))
            mean, score, count = mean_cross_entropy(logits, targets, **options)
        else:
            (total, count), score = sums(self.loss, logits, targets), None
            mean = total / (count.clamp(min=TINY) if isinstance(count, Tensor) else count)
        if notes:
            self.mean_count.add_sum(count, len(targets))
        return mean, score

    def _estimated_ratio(
        self, logits: Tensor, targets: Tensor, weights: Tensor, is_fused: bool
    ) -> tuple[Tensor, Tensor | None]:
        if is_fused and not is_read_freely(targets):
            return self._fused(logits, targets, weights / self._mean_count(targets, weights))
        if is_fused:
            mean, score = self._fused(logits, targets, weights)
        else:
            mean, score = (weights * terms_of(self.loss, logits, targets)).mean(), None
        count = self._mean_count(targets, weights)
        is_one = isinstance(count, float) and count == 1.0
        return mean if is_one else mean / count, score

    def _mean_count(self, targets: Tensor, weights: Tensor) -> Tensor | float:
        """By what a drawn batch's mean divides."""
        if self.mean_count.samples == 0:  # a memory's, whose data set was dealt by another engine
            self.note(targets, weights)
        return self.mean_count.value

    def note(self, targets: Any, weights: Tensor | None = None) -> None:
        """What the labels of dealt samples count, for the mean count."""
        if not is_ratio(self.loss, targets):
            return
        counts = self._counts(targets)
        if counts is None:
            self.mean_count.add_sum(float(len(targets)), len(targets))
        else:
            self.mean_count.add(counts, weights)

    def _fused(
        self, logits: Tensor, targets: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        options = cross_entropy_options(cast(nn.CrossEntropyLoss, self.loss))
        return ops.cross_entropy(logits, targets, weights, **options)

    def _counts(self, targets: Tensor) -> Tensor | None:
        """[b]; None where each sample counts 1."""
        looks = self._shows and targets.dim() == 1 and is_read_freely(targets)
        if looks and torch.min(targets).item() >= 0:
            return None
        return counts_of(self.loss, targets)

    def scores(
        self, model: nn.Module | None, inputs: Any, targets: Any, logits: Tensor | None
    ) -> Tensor:
        """The scores of a batch, float32 [b], from its ``logits`` where they suffice.

        Else ``model`` makes another pass; raises ValueError where there is none.
        """
        from_logits, from_model = self.score.from_logits, self.score.from_model
        if from_logits is not None and logits is not None:
            return self._of_terms(from_logits(self.loss, logits.detach(), targets), targets)
        if from_model is None or model is None:
            raise ValueError(
                f"model must be given to Engine for score={self.score.name!r}, which needs more "
                "than logits; got None"
            )
        with leaving_no_trace(model, next(model.parameters()).device):
            return self._of_terms(from_model(self.loss, model, inputs, targets), targets)

    def _of_terms(self, score: Tensor, targets: Any) -> Tensor:
        """Scores of samples' own means as those of what they add to the batch's mean: a sequence
        with twice the labels adds twice as much."""
        by_user = SCORES.get(self.score.name) is not self.score
        if by_user or not is_ratio(self.loss, targets) or targets.dim() == 1:
            return score
        counts, known = counts_of(self.loss, targets), self.mean_count
        assert counts is not None
        mean = known.value if known.samples else counts.double().mean().clamp(min=TINY)
        return score * (counts / mean).float()

    def fuses(self, logits: Tensor | None) -> bool:
        """Whether softmax_score gives the scores of ``logits``, so that the fused ops serve."""
        is_upper_bound = self.score.name == "upper_bound"
        is_cross_entropy = isinstance(self.loss, nn.CrossEntropyLoss)
        return is_upper_bound and is_cross_entropy and logits is not None and logits.dim() == 2

    def sample(self, logits: Tensor, targets: Any, count: int, **options: Any) -> ops.Sample:
        """:func:`isample.importance_sample` of this loss, where it :meth:`fuses` these logits."""
        if not isinstance(self.loss, nn.CrossEntropyLoss):
            raise TypeError(
                f"loss must be a cross-entropy to be fused; got {type(self.loss).__name__}"
            )
        return ops.importance_sample(
            logits, targets, count, **options, **cross_entropy_options(self.loss)
        )
