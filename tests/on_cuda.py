"""What the tests on a CUDA device have in common. They are skipped without a GPU, where
tests/test_cuda_standin.py executes the kernels on the host instead."""

import pytest
import torch

from isample import _C

BUILT = bool(_C.build_info()["cuda_architectures"])
needs_cuda = pytest.mark.skipif(
    not (BUILT and torch.cuda.is_available()),
    reason="no CUDA device" if BUILT else f"built without CUDA: {_C.build_info()['why_no_cuda']}",
)
METHODS = ("alias", "systematic", "pps")
SHAPES = [
    (1, 1),
    (1, 10),
    (3, 2),
    (127, 7),
    (128, 10),
    (640, 100),
    (1024, 1000),
    (7, 32000),
    (3, 128257),
    (5000, 33),
]


def make_logits(shape, dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=random) * 4
    return logits.to(dtype), torch.randint(shape[1], shape[:1], generator=random)


def to_cuda(value):
    return value.cuda() if isinstance(value, torch.Tensor) else value
