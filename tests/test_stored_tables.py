"""Tables from elsewhere: made by hand, loaded, or changed. A wrong one is refused, once and for all
where it enters a draw, and never read out of bounds."""

import io

import pytest
import torch

import isample
from isample.ops import memory, tables

ops = torch.ops.isample
SCORE = torch.tensor([0.5, 2.0, 0.0, 1.0, 4.0])
ALIAS = isample.alias_table(SCORE)
SUMS = isample.prefix_sum(SCORE)


def changed(tensor, place, value):
    result = tensor.clone()
    result[place] = value
    return result


def copied(table):
    """A table that nobody vouches for."""
    return type(table)(*(part.clone() for part in table))


# ---- Alias tables --------------------------------------------------------------------------------

WRONG = [
    ({"alias": changed(ALIAS.alias, 0, 5)}, ValueError, r"alias must lie in \[0, N\), got 5 at 0"),
    (
        {"alias": changed(ALIAS.alias, 2, -1)},
        ValueError,
        r"alias must lie in \[0, N\), got -1 at 2",
    ),
    ({"alias": torch.ones_like(ALIAS.alias)}, ValueError, "mass must be the share of the draws"),
    (
        {"threshold": changed(ALIAS.threshold, 1, -1)},
        ValueError,
        r"threshold must lie .* got -1 at 1",
    ),
    (
        {"threshold": ALIAS.threshold + ALIAS.total},
        ValueError,
        r"threshold must lie in \[0, total\]",
    ),
    ({"threshold": torch.zeros_like(ALIAS.threshold)}, ValueError, "mass must be the share"),
    ({"mass": changed(ALIAS.mass, 3, -7)}, ValueError, "mass must not be negative, got -7 at 3"),
    ({"mass": ALIAS.mass.flip(0)}, ValueError, "mass must be the share of the draws"),
    ({"total": ALIAS.total + 1}, ValueError, "total must be the sum of mass"),
    ({"total": ALIAS.total * 0}, ValueError, "total must be above 0"),
    ({"total": -ALIAS.total}, ValueError, "total must be above 0"),
    ({"total": torch.tensor(2**62)}, ValueError, "total must be above 0 and at most"),
    ({"threshold": ALIAS.threshold.int()}, TypeError, "threshold must be torch.int64"),
    ({"alias": ALIAS.alias[:3]}, ValueError, "alias must have the shape of threshold"),
    ({"mass": ALIAS.mass.float()}, TypeError, "mass must be torch.int32"),
    ({"mass": ALIAS.mass.to("meta")}, ValueError, "mass must be on the device of threshold"),
]


@pytest.mark.parametrize("parts, error, message", WRONG)
def test_an_alias_table_from_elsewhere_is_checked(parts, error, message):
    for _ in range(2):  # what was refused once is not known the next time
        with pytest.raises(error, match=message):
            isample.draw(copied(ALIAS)._replace(**parts), 8, seed=0)


# ---- Prefix sums ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sums, error, message",
    [
        (torch.tensor([1, 2, -3]), ValueError, "sums must ascend from 0 on, got -3 at 2"),
        (torch.tensor([-1, 2, 3]), ValueError, "sums must ascend from 0 on, got -1 at 0"),
        (torch.tensor([5, 2, 9]), ValueError, "sums must ascend from 0 on, got 2 at 1"),
        (torch.tensor([0, 0, 0]), ValueError, "the last of sums must be above 0, got 0"),
        (torch.tensor([1, 2, 2**33]), ValueError, "less than 2.31 an item, got 8589934592 at 2"),
        (torch.tensor([2**63 - 1, -(2**63)]), ValueError, "sums must ascend from 0 on"),
        (SUMS.sums.int(), TypeError, "sums must be torch.int64"),
        (SUMS.sums[None], ValueError, "sums must be one-dimensional"),
        (SUMS.sums[:0], ValueError, "sums must hold between 1 and"),
    ],
)
@pytest.mark.parametrize("user", ["draw", "draw_weights", "recall"])
def test_prefix_sums_from_elsewhere_are_checked(user, sums, error, message):
    table, places = isample.PrefixSum(sums, torch.tensor(1.0)), torch.tensor([0])
    remembered, met = torch.ones(3), torch.zeros(256, 3)
    with pytest.raises(error, match=message):
        if user == "draw":
            isample.draw(table, 8, seed=0)
        elif user == "draw_weights":
            memory.draw_weights(table, places)
        else:
            memory.recall(remembered, met, torch.ones(1), places, weights=None, table=table)
    assert remembered.tolist() == [1.0, 1.0, 1.0] and not met.any()


# ---- Checked once --------------------------------------------------------------------------------


@pytest.fixture
def checks(monkeypatch):
    """The calls of the ops that look at a whole table."""
    seen = []

    class Counted:
        def __init__(self, op):
            self.op = op

        def default(self, *parts):
            seen.append(self.op)
            return self.op.default(*parts)

    for name in ("_check_table", "_check_prefix_sums"):
        monkeypatch.setattr(ops, name, Counted(getattr(ops, name)))
    return seen


@pytest.mark.parametrize("make", [isample.alias_table, isample.prefix_sum])
def test_a_table_is_looked_at_once_and_our_own_never(checks, make):
    own = make(SCORE)
    expected = isample.draw(own, 50, seed=3)
    assert not checks
    other = copied(own)
    for _ in range(3):
        for got, truth in zip(isample.draw(other, 50, seed=3), expected):
            assert torch.equal(got, truth)
    assert len(checks) == 1


@pytest.mark.parametrize("make", [isample.alias_table, isample.prefix_sum])
def test_what_was_changed_in_place_is_looked_at_again(make):
    table = make(SCORE)
    for part in tables._parts(table):
        whole = part.clone()
        part.sub_(10**9)
        with pytest.raises(ValueError, match=r"must"):
            isample.draw(table, 8)
        part.copy_(whole)
    isample.draw(table, 8)


def test_known_tables_are_forgotten_with_their_tensors():
    before = len(tables._known)
    made = [isample.prefix_sum(SCORE) for _ in range(5)]
    assert len(tables._known) == before + 5
    del made
    assert len(tables._known) == before


@pytest.mark.parametrize("table", [ALIAS, SUMS])
def test_a_saved_table_is_read_with_weights_only(table):
    file = io.BytesIO()
    torch.save(table, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert type(loaded) is type(table)
    for got, truth in zip(isample.draw(loaded, 50, seed=3), isample.draw(table, 50, seed=3)):
        assert torch.equal(got, truth)


# ---- The ops themselves, which no wrapper guards -------------------------------------------------


def test_the_ops_read_nothing_out_of_bounds():
    """Out of bounds is far out here, where a read ends the process."""
    n, far = 1000, 2**31 - 1
    table = isample.alias_table(torch.rand(n))
    none = torch.zeros_like(table.threshold)
    for alias in (far, -far, n, -1):
        indices, weights = ops.draw.table(
            none, torch.full_like(table.alias, alias), table.mass, table.total, 8, seed=0
        )
        assert indices.tolist() == [0] * 8 and weights.isnan().all()
    for sums in ([1, 2, -3], [2**62, -1, 2**63 - 1], [0, 0, -1], [7, 3, 5]):
        indices, _ = ops.draw.prefix_sum(torch.tensor(sums), 64, seed=0)
        assert ((indices >= 0) & (indices < 3)).all()


def test_an_item_without_mass_has_no_weight():
    table = isample.alias_table(SCORE)
    for mass, total in ((-table.mass, table.total), (table.mass, -table.total)):
        _, weights = ops.draw.table(table.threshold, table.alias, mass, total, 8, seed=0)
        assert weights.isnan().all()
