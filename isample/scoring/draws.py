"""How a batch is drawn from a presample: all give exactly ``batch_size`` indices, and weights that
keep the mean gradient unbiased.

alias
    with replacement, the paper's multinomial, through an alias table
systematic
    equal steps through the prefix sum from one random start: each item floor or ceil of b p_i times
pps
    without replacement: inclusion probability min(1, c p_i), systematic steps over a random
    permutation
"""

from __future__ import annotations

from dataclasses import dataclass

from isample.support.registry import look_up


@dataclass(frozen=True)
class Draw:
    """A kind of draw; the arithmetic is in ``csrc/core/draws.h`` and ``csrc/core/alias.h``."""

    name: str
    with_replacement: bool


DRAWS: dict[str, Draw] = {
    "alias": Draw("alias", with_replacement=True),
    "systematic": Draw("systematic", with_replacement=True),
    "pps": Draw("pps", with_replacement=False),
}


def make_draw(name: str) -> Draw:
    """The draw of a name; raises ValueError that lists the known ones."""
    return look_up(DRAWS, name, "draws")
