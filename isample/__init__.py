"""Importance sampling for deep learning (Katharopoulos & Fleuret 2018), compiled for PyTorch."""

from isample.errors import IsampleError, NonFiniteScoreError
from isample.history import Evaluation, History, StepReport
from isample.loader import ImportanceLoader, WeightedBatch
from isample.ops import AliasTable, alias_table, distribution, draw, importance_sample, softmax_score
from isample.sampler import ImportanceSampler
from isample.trainer import Trainer

__all__ = [
    "AliasTable",
    "Evaluation",
    "History",
    "ImportanceLoader",
    "ImportanceSampler",
    "IsampleError",
    "NonFiniteScoreError",
    "StepReport",
    "Trainer",
    "WeightedBatch",
    "alias_table",
    "distribution",
    "draw",
    "importance_sample",
    "softmax_score",
]
