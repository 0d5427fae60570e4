"""The methods, by name, as `bench.training.training` describes them. The referee and the
experiments both use these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isample.support.registry import look_up

from ..training import Method, Training
from .importance import fresh_presamples, gradient_norm, isample_default, loss, upper_bound
from .infobatch import infobatch
from .katyusha import Katyusha
from .online_batch_selection import OnlineBatchSelection
from .plain_loop import plain_loop
from .prioritized import Prioritized
from .scsg import SCSG
from .selective_backprop import selective_backprop, selective_backprop_reweighted
from .svrg import SVRG
from .uniform import Uniform, double_rate, large_batch, random_selection


@dataclass(frozen=True)
class Entry:
    """``make`` gives a training its method, ``summary`` is what the table's legend says of it. A
    ``resumable`` one has a state, and so can take part in the experiments, whose runs go on after a
    kill."""

    make: Callable[[Training], Method]
    summary: str
    resumable: bool = True


METHODS = {
    "uniform": Entry(Uniform, "plain loop over shuffled batches of b"),
    "large-batch": Entry(
        large_batch, "plain loop over batches of 2b, learning rate doubled (linear scaling)"
    ),
    "double-rate": Entry(
        double_rate, "plain loop with twice the learning rate, which isample's may reach"
    ),
    "random": Entry(
        random_selection, "loads 5b samples, trains on a random b of them", resumable=False
    ),
    "selective-backprop": Entry(
        selective_backprop,
        "Jiang et al. 2019: forward pass on every batch; a sample is kept with probability "
        "(percentile of its loss among the last 1,024)²; trains whenever b are kept",
        resumable=False,
    ),
    "selective-backprop-reweighted": Entry(
        selective_backprop_reweighted,
        "the same with the probability at least 0.1 and each loss weighted by its inverse, "
        "self-normalised",
        resumable=False,
    ),
    "infobatch": Entry(
        infobatch,
        "Qin et al. 2024: an epoch leaves out half of the samples whose loss was below the mean "
        "and doubles the gradient of the other half; the last 12.5 % of the time nothing is "
        "left out",
        resumable=False,
    ),
    "upper-bound": Entry(
        upper_bound,
        "Katharopoulos and Fleuret 2018, Algorithm 1: B = 5b scored, b drawn with replacement, "
        "switch on tau",
    ),
    "loss": Entry(loss, "Algorithm 1 with the loss in place of the upper bound"),
    "gradient-norm": Entry(
        gradient_norm,
        "Algorithm 1 with the true norm of each sample's gradient in place of the upper bound",
    ),
    "online-batch-selection": Entry(
        OnlineBatchSelection,
        "Loshchilov and Hutter 2015: drawn by the rank of the latest known loss, the first 100 "
        "times as likely as the last, falling to 1; all losses computed anew every 1,200 updates",
    ),
    "prioritized": Entry(
        Prioritized,
        "Schaul et al. 2015, proportional: drawn in proportion to the root of the latest known "
        "loss, weighted by the inverse, divided by the batch's largest",
    ),
    "svrg": Entry(
        SVRG,
        "Johnson and Zhang 2013: no momentum; gradients corrected by those at an anchor, renewed "
        "every 5 epochs",
    ),
    "scsg": Entry(
        SCSG,
        "Lei and Jordan 2017: no momentum; the same with an anchor of 32b samples for 32 updates "
        "on average",
    ),
    "katyusha": Entry(
        Katyusha,
        "Allen-Zhu 2017: the same with momentum toward the anchor, which is the mean of the last "
        "2 epochs' iterates",
    ),
    "presample": Entry(
        fresh_presamples,
        "isample.Trainer(mode='presample'): a fresh presample of 2b to 12b scored, b drawn without "
        "replacement; size and switch by measured gain and time",
    ),
    "isample": Entry(isample_default, "isample.Trainer, all by default: memory mode"),
    "isample-plain-loop": Entry(
        plain_loop,
        "isample.Engine in an ordinary PyTorch loop: examples/plain_loop.py",
        resumable=False,
    ),
}


def find_method(name: str) -> Entry:
    """Raises ValueError that lists the methods."""
    return look_up(METHODS, name, "method")
