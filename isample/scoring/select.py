"""From the scores of candidates to a weighted batch: Algorithm 1, lines 6 to 9 and 17."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isample import ops
from isample.scoring.objective import Objective
from isample.support.random_state import restore_generator, seed_or_drawn
from isample.support.registry import look_up


@dataclass(frozen=True)
class Draw:
    """A kind of draw; the arithmetic is in ``csrc/core/draws.h`` and ``csrc/core/alias.h``."""

    name: ops.DrawMethod
    with_replacement: bool


DRAWS: dict[str, Draw] = {
    "alias": Draw("alias", with_replacement=True),
    "systematic": Draw("systematic", with_replacement=True),
    "pps": Draw("pps", with_replacement=False),
}
"""All give exactly the samples asked for, and weights that keep the mean gradient unbiased.

==========  ========================================================================================
alias       with replacement, the paper's multinomial, through an alias table
systematic  equal steps through the prefix sum from one random start: each item floor or ceil of b p
pps         without replacement: inclusion probability min(1, c p), steps over a random permutation
==========  ========================================================================================
"""


class Selection(NamedTuple):
    """What was drawn from candidates.

    indices: int64 [b] into the candidates.
    weights: float32 [b], 1/(B p_i) times the candidates' own weights.
    score: float32 [B].
    tau: float32 0-dim, NaN if a score was not finite.
    """

    indices: Tensor
    weights: Tensor
    score: Tensor
    tau: Tensor


class Selector:
    """Draws from scored candidates, and keeps the moving average of tau.

    Args:
        draws: a name in :data:`DRAWS`.
        tau_momentum: a_tau of the moving average, in [0, 1).
        seed: of the draws; by default taken from torch's generator.
        device: of the scores.

    ``tau_ema`` is float32 0-dim on the device.
    """

    def __init__(
        self,
        draws: str = "pps",
        tau_momentum: float = 0.9,
        seed: int | None = None,
        device: torch.device | str = "cpu",
    ):
        if not 0 <= tau_momentum < 1:
            raise ValueError(f"tau_momentum must be in [0, 1); got {tau_momentum}")
        self.draw: Draw = look_up(DRAWS, draws, "draws")
        self.tau_momentum = tau_momentum
        self.tau_ema: Tensor = torch.zeros((), dtype=torch.float32, device=device)
        self.generator: torch.Generator = torch.Generator(device)
        # Seeded from torch's own generator, so that torch.manual_seed reproduces; drawing then
        # leaves that one alone.
        self.generator.manual_seed(seed_or_drawn(seed))

    def from_scores(self, score: Tensor, count: int, weights: Tensor | None = None) -> Selection:
        """Draws ``count`` in proportion to ``score``, float32 [B].

        Candidates that were themselves drawn bring ``weights`` w, float32 [B]. They are drawn again
        in proportion to w times the score.

        Raises NonFiniteScoreError, on a CPU, where a score is not a finite number.
        """
        weighted = score if weights is None else score * weights
        tau = self.observe(weighted)
        indices, drawn = ops.draw(weighted, count, method=self.draw.name, generator=self.generator)
        if weights is not None:
            drawn = drawn * weights[indices]
        return Selection(indices, drawn, score, tau)

    def from_logits(
        self, objective: Objective, logits: Tensor, targets: Any, count: int
    ) -> Selection:
        """The same in one fused call, where ``objective`` fuses these logits."""
        sample = objective.sample(
            logits,
            targets,
            count,
            tau_ema=self.tau_ema,
            momentum=self.tau_momentum,
            draws=self.draw.name,
            generator=self.generator,
        )
        return Selection(sample.indices, sample.weights, sample.score, sample.tau)

    def all_of(self, score: Tensor, count: int) -> Selection:
        """The first ``count`` with weights of 1 and a tau of NaN.

        A process whose scores are not finite takes these. It then goes on to the all-reduce, where
        the NaN stops all processes together.
        """
        indices = torch.arange(count, device=score.device)
        ones = torch.ones(count, dtype=torch.float32, device=score.device)
        return Selection(indices, ones, score, score.new_full((), float("nan")))

    def observe(self, score: Tensor) -> Tensor:
        """tau of scores, float32 0-dim; its moving average goes on."""
        _, tau = ops.distribution(score, tau_ema=self.tau_ema, momentum=self.tau_momentum)
        return tau

    def new_seed(self) -> int:
        """A seed for another generator, out of this one's."""
        options = {"generator": self.generator, "device": self.generator.device}
        return int(torch.randint(2**62, (), **options))

    def state_dict(self) -> dict[str, Any]:
        return {"tau_ema": self.tau_ema.cpu().clone(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tau_ema.copy_(state["tau_ema"])
        restore_generator(self.generator, state["generator"])
