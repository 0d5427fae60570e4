"""The compiled ops, typed and documented, in pipeline order:

    logits -> softmax_score -> distribution, tau -> alias_table -> draw -> weights

and ``importance_sample``, which does all of it in one call. Each wraps
``torch.ops.isample.<name>``, which torch.compile, autocast and CUDA graphs see; the fake
implementation, which gives shapes alone, stands beside it.

Equation numbers are those of Katharopoulos & Fleuret 2018, "Not All Samples Are Created Equal". B
is the number of candidates, C that of classes, b that of draws.
"""

import torch  # noqa: F401  (its libraries, before those of _C)

from isample import _C  # noqa: F401  (registers torch.ops.isample)
from isample.ops.draws import DrawMethod, Sample, draw, importance_sample
from isample.ops.rows import rows
from isample.ops.scores import cross_entropy, softmax_score
from isample.ops.tables import AliasTable, PrefixSum, alias_table, distribution, prefix_sum

__all__ = [
    "AliasTable",
    "DrawMethod",
    "PrefixSum",
    "Sample",
    "alias_table",
    "cross_entropy",
    "distribution",
    "draw",
    "importance_sample",
    "prefix_sum",
    "rows",
    "softmax_score",
]
