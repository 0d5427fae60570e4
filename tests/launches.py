"""How many kernels a CUDA device would run for what runs on the CPU: counted op by op, without one.

Memory copies count as kernels: they cost a launch, too.
"""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# of torch's ops that run no kernel; views are known by their schema
FREE = (
    "empty",
    "new_empty",
    "empty_like",
    "empty_strided",
    "new_empty_strided",
    "_unsafe_view",
    "_reshape_alias",
    "lift_fresh",
    "detach_",
    "set_",
)
# of torch's ops that run several: as torch.profiler shows them
SEVERAL = {"dot": 2, "sort": 2, "randperm": 6, "_local_scalar_dense": 1}
SCATTER = 11  # index_put with accumulate: a sort and its helpers

# of isample's ops; tests/cpp/cuda_*_test.cpp hold the same numbers against the kernels' launches
ISAMPLE = {
    "softmax_score": 1,
    "cross_entropy": 1,
    "_cross_entropy_with_gradient": 1,
    "_mean_cross_entropy": 1,
    "_mean_cross_entropy_with_gradient": 1,
    "recall": 1,
    "remember": 1,
    "meet": 1,
    "draw_moments": 1,
    "draw_weights": 1,
    "permuted": 1,
    "draw.prefix_sum": 1,
    "expected_scores": 3,
    "_expected_scores_into": 3,
    "_pack": 1,
    "prefix_sum": 6,  # of more than one block's items
    "_prefix_sum_into": 6,
}


class Launches(TorchDispatchMode):
    """Counts, within it, what each op would launch; ``by_op`` has them by name."""

    def __init__(self):
        super().__init__()
        self.by_op = Counter()

    @property
    def total(self):
        return sum(self.by_op.values())

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        kwargs.pop("pin_memory", None)  # which takes a device
        count = launches_of(op, args, kwargs)
        if count:
            self.by_op[op.name()] += count
        return op(*args, **kwargs)


def launches_of(op, args, kwargs):
    space, _, name = op.name().partition("::")
    bare = name.partition(".")[0]
    if space == "isample":
        return ISAMPLE[name]
    if space == "profiler" or op.is_view or bare in FREE:
        return 0
    if bare.startswith("index_put") or bare == "_index_put_impl_":
        return SCATTER if len(args) > 3 and args[3] else 1
    return SEVERAL.get(bare, 1)


class FakeEvent:
    """torch.cuda.Event where there is no CUDA: everything is done at once."""

    def __init__(self, *args, **kwargs):
        pass

    def record(self, stream=None):
        pass

    def synchronize(self):
        pass

    def query(self):
        return True

    def elapsed_time(self, end):
        return 1.0


def act_as_cuda(monkeypatch):
    """Python takes the branches of CUDA tensors, for those of the CPU; an engine's steps also need
    ``steps.device``."""
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *device: None)
    for module in ("scoring.objective", "scoring.counts", "ops.tables"):
        monkeypatch.setattr(f"isample.{module}.is_read_freely", lambda tensor: False)
