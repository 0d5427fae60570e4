"""The next presample, scored while the backward pass of the present step runs (beyond the paper).

    stream          forward t | backward t           | update t | draw t+1 | forward t+1 ...
    side stream               | load and score t+1   |

The scores are those of the parameters one update ago. The weights come from the probabilities that
were drawn by, so the gradient stays unbiased. The gate's decision, too, is acted on one step later.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn

from isample.scoring.select import ImportanceSampler, ScoredAhead, leaving_no_trace, start_timer
from isample.sources.presample import Presample
from isample.support.pytree import map_tensors


class Ahead:
    """Fetches and scores presamples for ``sampler`` a step ahead. On a GPU that happens on a stream
    of its own; a CPU does one after the other, in the same order, and gains nothing.

    ``scored`` is how many samples the step that was last begun has scored for the next one.
    """

    def __init__(self, sampler: ImportanceSampler, device: torch.device):
        self.sampler, self.device = sampler, device
        self.side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.fetch: Callable[[], Presample | None] | None = None
        self.next: tuple[Presample, ScoredAhead | None] | None = None
        self.scored = 0

    def open(self, fetch: Callable[[], Presample | None]) -> None:
        """An epoch begins, of which ``fetch`` gives the presamples; what was fetched of another is
        dropped."""
        self.fetch, self.next, self.scored = fetch, None, 0

    def take(self) -> tuple[Presample | None, ScoredAhead | None]:
        """The next presample, and its logits if it is one that was scored; None at the epoch's
        end."""
        taken, self.next = self.next or (self.fetch(), None), None
        return taken

    def forward_queued(self) -> None:
        """To be called between the forward and the backward pass: what is scored waits for the
        former, which may change what the model keeps, such as running means."""
        if self.side is not None:
            self.side.wait_stream(torch.cuda.current_stream(self.device))

    def begin(self, model: nn.Module) -> None:
        """To be called when the backward pass is queued: fetches the next presample, and scores it
        if it is one."""
        with nullcontext() if self.side is None else torch.cuda.stream(self.side):
            presample, self.scored = self.fetch(), 0
            if presample is None:
                return
            ahead = None
            if presample.size > self.sampler.batch_size:
                ahead, self.scored = self._score(model, presample), presample.size
            self.next = presample, ahead

    def wait(self) -> None:
        """To be called before the parameters move: they are not to, as long as they are scored
        with."""
        if self.side is None or self.next is None:
            return
        stream = torch.cuda.current_stream(self.device)
        stream.wait_stream(self.side)
        presample, ahead = (
            self.next
        )  # their memory is the side stream's, which must know who reads it
        used = (presample.inputs, presample.targets, *(() if ahead is None else (ahead.logits,)))
        map_tensors(lambda tensor: tensor.record_stream(stream), used)

    def _score(self, model: nn.Module, presample: Presample) -> ScoredAhead:
        sampler = self.sampler
        with leaving_no_trace(sampler.scoring.module(model), self.device):
            timer = start_timer(self.device)
            return ScoredAhead(
                sampler.scoring.logits(model, presample.inputs, presample.size), timer()
            )
