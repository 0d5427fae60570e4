"""Importance sampling for deep learning (Katharopoulos & Fleuret 2018), compiled for PyTorch."""

from isample import _moved
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
from isample.scoring.forward import Scoring
from isample.scoring.select import ImportanceSampler
from isample.sources.memory import MemoryOrderError, MemorySampler
from isample.support.errors import IsampleError, NonFiniteScoreError
from isample.training.loader import ImportanceLoader, WeightedBatch
from isample.training.trainer import Trainer
from isample.values import Evaluation, History, StepReport

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

_moved.keep_old_paths()
