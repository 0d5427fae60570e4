"""Importance sampling for deep learning (Katharopoulos & Fleuret 2018), compiled for PyTorch."""

from isample import _moved
from isample.engine import Engine, Sampling
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
from isample.sources.order import MemoryOrderError
from isample.sources.sampler import MemorySampler
from isample.support.batch_kinds import register_batch_kind
from isample.support.errors import (
    CannotCutError,
    CannotJoinError,
    IsampleError,
    LostProcessError,
    NoMemoryWarning,
    NonFiniteLossError,
    NonFiniteScoreError,
    StateError,
    UnevenProcessesError,
    WrittenInputsError,
)
from isample.training.checkpoint import load
from isample.training.trainer import Trainer
from isample.values import Evaluation, History, Plan, StepReport

__all__ = [
    "AliasTable",
    "CannotCutError",
    "CannotJoinError",
    "Engine",
    "Evaluation",
    "History",
    "IsampleError",
    "LostProcessError",
    "MemoryOrderError",
    "MemorySampler",
    "NoMemoryWarning",
    "NonFiniteLossError",
    "NonFiniteScoreError",
    "Plan",
    "PrefixSum",
    "Sampling",
    "Scoring",
    "StateError",
    "StepReport",
    "Trainer",
    "UnevenProcessesError",
    "WrittenInputsError",
    "alias_table",
    "distribution",
    "draw",
    "importance_sample",
    "load",
    "prefix_sum",
    "register_batch_kind",
    "softmax_score",
]

_moved.keep_old_paths()
