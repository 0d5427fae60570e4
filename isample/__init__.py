"""Importance sampling for deep learning (Katharopoulos & Fleuret 2018), compiled for PyTorch."""

from isample.errors import IsampleError, NonFiniteScoreError
from isample.history import Evaluation, History, StepReport
from isample.loader import ImportanceLoader, WeightedBatch
from isample.memory import MemoryOrderError, MemorySampler
from isample.ops import (
    AliasTable,
    PrefixSum,
    alias_table,
    distribution,
    draw,
    importance_sample,
    prefix_sum,
    softmax_score,
)
from isample.sampler import ImportanceSampler
from isample.scoring import Scoring
from isample.trainer import Trainer

__all__ = [
    "AliasTable",
    "Evaluation",
    "History",
    "ImportanceLoader",
    "ImportanceSampler",
    "IsampleError",
    "MemoryOrderError",
    "MemorySampler",
    "NonFiniteScoreError",
    "PrefixSum",
    "Scoring",
    "StepReport",
    "Trainer",
    "WeightedBatch",
    "alias_table",
    "distribution",
    "draw",
    "importance_sample",
    "prefix_sum",
    "softmax_score",
]
