"""Importance sampling for deep learning (Katharopoulos & Fleuret 2018), compiled for PyTorch."""

from isample.errors import IsampleError, NonFiniteScoreError
from isample.ops import AliasTable, alias_table, distribution, draw, importance_sample, softmax_score

__all__ = [
    "AliasTable",
    "IsampleError",
    "NonFiniteScoreError",
    "alias_table",
    "distribution",
    "draw",
    "importance_sample",
    "softmax_score",
]
