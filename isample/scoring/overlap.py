"""The next candidates, scored while the backward pass of the present step runs (beyond the paper).

    stream          forward t | backward t           | update t | draw t+1 | forward t+1 ...
    side stream               | load and score t+1   |

The parameters that score are one update old. Weights follow from the probabilities of the draw, so
the gradient stays unbiased. A plan, too, acts one step later.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from isample.scoring.forward import Scoring, ScoringPass
from isample.scoring.scorers import ModelScorer, ScoredAhead, Scorer
from isample.scoring.scores import leaving_no_trace
from isample.support.clocks import start_timer
from isample.support.processes import unwrapped
from isample.support.pytree import as_pair, map_tensors
from isample.values import Candidates


class Overlap:
    """Fetches and scores candidates a step ahead. On a GPU that happens on a stream of its own; a
    CPU does one after the other, in the same order, and gains nothing.

    Args:
        model: that is trained.
        scoring_pass: how it scores.
        batch_size: b; so many samples or fewer are not scored.
        device: of the model.
    """

    def __init__(
        self, model: nn.Module, scoring_pass: ScoringPass, batch_size: int, device: torch.device
    ):
        self.model: nn.Module = unwrapped(model)
        self.scoring_pass: ScoringPass = scoring_pass
        self.batch_size: int = batch_size
        self.device: torch.device = device
        self.side: torch.cuda.Stream | None = (
            torch.cuda.Stream(device) if device.type == "cuda" else None
        )
        self._candidates: Iterator[Candidates] = iter(())
        self._next: tuple[Candidates | None, ScoredAhead | None] | None = None

    @classmethod
    def where_asked(
        cls, scoring: Scoring | None, scorer: Scorer | None, batch_size: int
    ) -> Overlap | None:
        """One for ``scorer`` where ``scoring`` is to be ahead; else None."""
        if scoring is None or not scoring.ahead or not isinstance(scorer, ModelScorer):
            return None
        device = scorer.selector.tau_ema.device
        return cls(scorer.model, scorer.scoring_pass, batch_size, device)

    def pair(
        self, candidates: Iterator[Candidates]
    ) -> Iterator[tuple[Candidates, ScoredAhead | None]]:
        """``candidates``, with their logits where these are known.

        Drops what was fetched of another epoch.
        """
        self._candidates, self._next = candidates, None
        while True:
            given, ahead = self._next or (next(self._candidates, None), None)
            self._next = None
            if given is None:
                return
            yield given, ahead

    def forward_queued(self) -> None:
        """Call it between the forward and the backward pass.

        Scoring then waits for the forward pass, which may change buffers such as running means.
        """
        if self.side is not None:
            self.side.wait_stream(torch.cuda.current_stream(self.device))

    def begin(self) -> None:
        """Call it once the backward pass is queued: fetches what is next, and scores it if that is
        more than a batch."""
        with nullcontext() if self.side is None else torch.cuda.stream(self.side):
            given, ahead = next(self._candidates, None), None
            if given is not None and given.size > self.batch_size:
                ahead = self._score(given)
            self._next = given, ahead

    def wait(self) -> None:
        """Call it before the parameters move: the update waits until they have scored."""
        given, ahead = self._next or (None, None)
        if self.side is None or given is None:
            return
        stream = torch.cuda.current_stream(self.device)
        stream.wait_stream(self.side)

        def read_here(tensor: Tensor) -> Tensor:
            if tensor.is_cuda:  # the side stream's allocator must know who else reads it
                tensor.record_stream(stream)
            return tensor

        map_tensors(read_here, (given.batch, *(() if ahead is None else (ahead.logits,))))

    def _score(self, given: Candidates) -> ScoredAhead:
        inputs, _ = as_pair(given.batch)
        with leaving_no_trace(self.scoring_pass.module(self.model), self.device):
            stop = start_timer(self.device)
            logits = self.scoring_pass.logits(self.model, inputs, given.size)
            return ScoredAhead(logits, stop())
