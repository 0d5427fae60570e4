"""A loss and a score that isample knows, of a model's outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from isample import ops
from isample.scoring.contradicted import contradicted_above
from isample.scoring.losses import Loss, is_exactly, make_loss, mean_loss
from isample.scoring.scores import Score, cross_entropy_options, leaving_no_trace, make_score


class Objective:
    """What a model is trained for; arguments are those of :class:`isample.Trainer`."""

    def __init__(self, loss: Loss, score: str | Callable[..., Any] = "upper_bound"):
        self.loss: Callable[..., Tensor] = make_loss(loss)
        self.score: Score = make_score(score)
        self._mean = mean_loss(self.loss)

    @property
    def contradicted(self) -> float | None:
        """The score above which a label is contradicted; None where scores have no such bound."""
        return contradicted_above(self.score, self.loss)

    def mean(
        self, logits: Tensor, targets: Any, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The mean of ``weights`` times the losses, differentiable, 0-dim; and the scores, float32
        [b], where the same op gives them, else None."""
        loss = self.loss
        if (
            is_exactly(loss, nn.CrossEntropyLoss)
            and self.fuses(logits)
            and logits.device.type == "cpu"
        ):
            options = cross_entropy_options(loss)
            return ops.cross_entropy(logits, targets, weights, **options)
        return self._mean(logits, targets, weights), None

    def scores(
        self, model: nn.Module | None, inputs: Any, targets: Any, logits: Tensor | None
    ) -> Tensor:
        """The scores of a batch, float32 [b], from its ``logits`` where they suffice.

        Else ``model`` makes another pass; raises ValueError where there is none.
        """
        from_logits, from_model = self.score.from_logits, self.score.from_model
        if from_logits is not None and logits is not None:
            return from_logits(self.loss, logits.detach(), targets)
        if from_model is None or model is None:
            raise ValueError(
                f"model must be given to Engine for score={self.score.name!r}, which needs more "
                "than logits; got None"
            )
        with leaving_no_trace(model, next(model.parameters()).device):
            return from_model(self.loss, model, inputs, targets)

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
