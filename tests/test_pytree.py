"""Walks over batches give what torch's own walk gives, in every container."""

from collections import OrderedDict, namedtuple

import pytest
import torch
from torch.utils import _pytree as pytree

from isample.support.pytree import map_tensors

Pair = namedtuple("Pair", "inputs targets")
X, Y = torch.arange(6.0).view(3, 2), torch.arange(3)


@pytest.mark.parametrize(
    "batch",
    [
        X,
        (X, Y),
        [X, Y],
        [X, (Y, None, 3, "name")],
        {"x": X, "y": [Y, 1.5]},
        OrderedDict(x=X, y=(Y,)),
        Pair(X, Y),
        (Pair(X, [Y]), {"z": ()}),
        [],
        None,
    ],
)
def test_every_tensor_is_mapped_and_nothing_else(batch):
    mapped = map_tensors(lambda tensor: tensor + 1, batch)
    expected = pytree.tree_map_only(torch.Tensor, lambda tensor: tensor + 1, batch)
    ours, ours_form = pytree.tree_flatten(mapped)
    theirs, theirs_form = pytree.tree_flatten(expected)
    assert ours_form == theirs_form and type(mapped) is type(expected)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
