"""Whatever a batch holds is cut and joined sample by sample, or refused by its name.

Sample i of every batch is marked by the number i in all that it holds, so that a sample whose parts
fell apart is found by the numbers themselves.
"""

import numpy
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence
from torch.utils import _pytree as pytree

import isample
from isample.support.batch_cuts import join, take
from isample.support.errors import CannotCutError, CannotJoinError
from isample.support.pytree import batch_length, check_holds, map_tensors
from tests.marked_batches import (
    SAMPLES,
    STRUCTURES,
    Batch,
    Data,
    Encoding,
    Graph,
    Opaque,
    column,
    marks,
    names,
    ragged,
)


@pytest.mark.parametrize("which", [[3, 0, 3, 4], slice(1, 4), [], slice(None)], ids=str)
@pytest.mark.parametrize("kind", SAMPLES)
def test_samples_are_taken_with_what_belongs_to_them(kind, which):
    numbers = [5, 3, 8, 1, 6]
    batch = {"x": column(numbers), "beside": SAMPLES[kind](numbers)}
    if which == [] and kind in ("packed", "nested", "jagged", "graphs", "graphs of a class"):
        return  # torch knows no such thing without a sample
    chosen = which if isinstance(which, slice) else torch.tensor(which, dtype=torch.long)
    taken = take(batch, chosen)
    expected = numbers[which] if isinstance(which, slice) else [numbers[i] for i in which]
    assert marks(taken["x"]) == marks(taken["beside"]) == expected
    assert isinstance(taken["beside"], type(batch["beside"])) or "graphs" in kind
    assert marks(batch["beside"]) == numbers


@pytest.mark.parametrize("kind", SAMPLES)
def test_batches_are_joined_with_what_belongs_to_their_samples(kind):
    parts = [[5, 3, 8, 1, 6], [2, 7], [4]]
    batches = [{"x": column(part), "beside": SAMPLES[kind](part)} for part in parts]
    joined = join(batches)
    assert marks(joined["x"]) == marks(joined["beside"]) == sum(parts, [])
    assert batch_length(joined, "batch") == 8
    assert [marks(batch["beside"]) for batch in batches] == parts


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_structures_are_cut_and_joined_part_by_part(structure, size):
    """Of two parts, so that size 2 is that of the structure, too."""
    make, parts_of = STRUCTURES[structure]
    numbers = list(range(1, size + 1))
    batch = make(column(numbers), names(numbers))
    assert batch_length(batch, "batch") == size
    taken = take(batch, torch.tensor([size - 1, 0]))
    joined = join([batch, make(column([7, 8]), names([7, 8]))])
    for value, expected in ((taken, [size, 1]), (joined, [*numbers, 7, 8])):
        assert type(value) is type(batch)
        assert [marks(part) for part in parts_of(value)] == [expected] * 2
    assert [marks(part) for part in parts_of(batch)] == [numbers] * 2


def test_what_a_structure_has_beside_its_parts_goes_along():
    batch = Encoding({"ids": column([4, 5, 6])}, [Opaque(i) for i in (4, 5, 6)])
    taken = take(batch, torch.tensor([2, 2]))
    assert marks(taken["ids"]) == marks(taken._encodings) == [6, 6]
    joined = join([batch, taken])
    assert marks(joined["ids"]) == marks(joined._encodings) == [4, 5, 6, 6, 6]
    data = take(Data(column([4, 5]), names([4, 5])), slice(1, 2))
    assert marks(data.beside) == [5] and data.note == "shared"


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_outermost_list_is_structure(size):
    """Inputs and targets of one shape, as an autoencoder has, in a batch of two as in others."""
    numbers = list(range(size))
    for batch in ([column(numbers), column(numbers)], (column(numbers), torch.tensor(numbers))):
        for part in take(batch, torch.tensor([size - 1])):
            assert marks(part) == [size - 1]
        assert [marks(part) for part in join([batch, batch])] == [numbers * 2] * 2


def test_lists_that_can_be_read_in_two_ways():
    """A list of images with as many channels as samples, and a pair of views in a batch of two."""
    images = [torch.full((3, 8, 8), float(i)) for i in range(3)]
    batch = {"images": images, "names": names(range(3))}
    assert batch_length(batch, "batch") == 3  # nothing to decide
    with pytest.raises(CannotCutError, match=r"3 equal parts of 3 samples each.*at \['images'\]"):
        take(batch, torch.tensor([2, 0]))
    with pytest.raises(CannotJoinError, match=r"one thing a sample or structure.*\['images'\]"):
        join([batch, batch])
    other = {"images": images[:2], "names": names(range(2))}
    joined = join([batch, other])  # of two samples it is no structure, so of three neither
    assert marks(joined["images"]) == marks(joined["names"]) == [0, 1, 2, 0, 1]
    views = {"views": [column([1, 2]), torch.tensor([1, 2])]}  # of other shapes: no samples
    assert [marks(view) for view in take(views, torch.tensor([1]))["views"]] == [[2], [2]]
    views = [{"views": [column(ns), column(ns)], "names": names(ns)} for ns in ([1, 2], [3, 4, 5])]
    assert [marks(view) for view in join(views)["views"]] == [[1, 2, 3, 4, 5]] * 2


class Rows:
    """Holds samples in a way of its own."""

    def __init__(self, rows):
        self.rows = rows


class MoreRows(Rows):
    pass


@pytest.fixture
def registered(monkeypatch):
    from isample.support import batch_forms, batch_kinds

    monkeypatch.setattr(batch_kinds, "_kinds", dict(batch_kinds._kinds))
    yield
    batch_forms.form_of.cache_clear()


@pytest.mark.parametrize("by", [Rows, f"{Rows.__module__}.Rows"], ids=["class", "name"])
def test_a_kind_of_the_user_s_own(registered, by):
    batch = {"x": column([4, 5]), "rows": MoreRows([column([4]), column([5])])}
    with pytest.raises(TypeError, match=r"got MoreRows at \['rows'\].*isample.register_batch_kind"):
        take(batch, slice(1))
    isample.register_batch_kind(
        by,
        length=lambda value: len(value.rows),
        take=lambda value, which: Rows([value.rows[i] for i in which.tolist()]),
        join=lambda parts: Rows([row for part in parts for row in part.rows]),
        map=lambda function, value: Rows([function(row) for row in value.rows]),
    )
    assert [marks(row) for row in take(batch, torch.tensor([1, 1]))["rows"].rows] == [[5], [5]]
    assert [marks(row) for row in join([batch, batch])["rows"].rows] == [[4], [5]] * 2
    assert [marks(row) for row in map_tensors(lambda t: t + 1, batch)["rows"].rows] == [[5], [6]]
    with pytest.raises(ValueError, match=r"got lengths \[1, 2\] \(\['x'\]: 1, \['rows'\]: 2"):
        batch_length({**batch, "x": column([1])}, "batch")


def test_a_kind_that_only_has_a_length(registered):
    isample.register_batch_kind(Rows, length=lambda value: len(value.rows))
    batch = {"x": column([4, 5]), "rows": Rows([4, 5])}
    assert batch_length(batch, "batch") == 2
    with pytest.raises(CannotCutError, match="got Rows at"):
        take(batch, slice(1))
    with pytest.raises(CannotJoinError, match="got Rows at"):
        join([batch, batch])


@pytest.mark.parametrize(
    "kind,hooks,error,match",
    [
        (3, {"length": len}, TypeError, "kind must be a class or its qualified name; got 3"),
        ("Rows", {"length": len}, ValueError, "'package.module.Class'; got Rows"),
        (torch.Tensor, {"length": len}, ValueError, "kind must be a class but Tensor"),
        (Rows, {"length": 3}, TypeError, "length must be callable; got int"),
        (Rows, {"length": len, "take": 3}, TypeError, "take must be callable or None; got int"),
    ],
)
def test_bad_registrations(kind, hooks, error, match):
    with pytest.raises(error, match=match):
        isample.register_batch_kind(kind, **hooks)


@pytest.mark.parametrize("what", [Opaque(), {1, 2}, iter([1, 2]), range(2)], ids=type)
def test_what_nobody_knows_is_refused_by_name_where_it_would_be_cut(what):
    batch = {"x": column([4, 5]), "beside": what}
    assert batch_length(batch, "batch") == 2 and map_tensors(torch.clone, batch)["beside"] is what
    place = rf"got {type(what).__name__} at \['beside'\].*isample.register_batch_kind"
    with pytest.raises(TypeError, match=place):
        take(batch, slice(1))
    with pytest.raises(ValueError, match=place):
        join([batch, batch])


@pytest.mark.parametrize(
    "batch,match",
    [
        ({"x": column([1, 2, 3]), "y": names([1, 2])}, r"\['x'\]: 3, \['y'\]: 2"),
        ({"x": column([1, 2, 3]), "y": numpy.zeros(2)}, r"\['y'\]: 2"),
        ({"x": column([1, 2, 3]), "y": ragged([1, 2])}, r"got lengths"),
        ({"x": column([1, 2, 3]), "y": {"z": [1, 2]}}, r"\['y'\]\['z'\]: 2"),
        (Data(column([1, 2, 3]), names([1, 2])), r"\.x: 3, \.names: 2"),
        ((column([1, 2, 3]), (names([1, 2]), None)), r"\[1\]\[0\]: 2"),
        ((column([1]), torch.tensor(3.0)), "along dim 0 of every tensor; got a 0-dim tensor"),
        ((column([1]), numpy.array(3.0)), "got lengths"),
    ],
)
def test_lengths_that_disagree_are_refused(batch, match):
    with pytest.raises(ValueError, match=match):
        batch_length(batch, "batch")
    with pytest.raises((ValueError, TypeError)):
        take(batch, torch.tensor([0]), 3)
    with pytest.raises(ValueError):
        check_holds(batch, 3)


def test_inputs_hold_the_samples_that_were_drawn_however_they_are_held():
    check_holds([torch.zeros(3, 8, 8)] * 16, 16)
    check_holds({"text": names(range(16))}, 16)
    with pytest.raises(ValueError, match="inputs must hold all 16 samples.*got 15"):
        check_holds({"text": names(range(15))}, 16)


@pytest.mark.parametrize(
    "one,other",
    [(True, False), (1, 2), (1, True), ("a", "b"), (None, 1), (torch.Size([2]), torch.Size([3]))],
)
def test_what_is_shared_must_be_equal(one, other):
    batches = [{"x": column([i]), "shared": value} for i, value in enumerate((one, one, other))]
    with pytest.raises(CannotJoinError, match="shared"):
        join(batches)
    assert join(batches[:2])["shared"] == one
    nan = [{"x": column([i]), "shared": float("nan")} for i in range(2)]
    assert str(join(nan)["shared"]) == "nan"


@pytest.mark.parametrize(
    "one,other,match",
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), r"\[\*, 3\] torch.float32.*\[\*, 4\].*pad"),
        (torch.zeros(2), torch.zeros(2).long(), "float32.*int64"),
        (numpy.zeros((2, 3)), numpy.zeros((2, 4)), r"\(2, 3\) and \(2, 4\)"),
        ({"x": torch.zeros(2)}, {"y": torch.zeros(2)}, "share one structure"),
        ((torch.zeros(2),), (torch.zeros(2), torch.zeros(2)), "share one structure"),
        ({"x": torch.zeros(2)}, [torch.zeros(2)], "share one structure; got dict and list"),
    ],
)
def test_what_cannot_be_joined_is_refused_with_the_remedy(one, other, match):
    with pytest.raises(CannotJoinError, match=match):
        join([one, other], [2, 2])


def test_tensors_are_reached_in_every_container():
    def batch(value):
        return [make(value, [value, (value,)]) for make, _ in STRUCTURES.values()]

    reached = []
    map_tensors(lambda tensor: reached.append(tensor) or tensor, batch(torch.zeros(2)))
    # three each, and once more for what a dataclass has beside its fields
    assert len(reached) == 3 * len(STRUCTURES) + 1
    packed = pack_sequence(ragged([1, 2, 3]), enforce_sorted=False)
    mapped = map_tensors(lambda tensor: tensor.double(), packed)
    assert mapped.data.dtype == torch.float64 and mapped.batch_sizes.dtype == torch.int64
    graphs = Batch([Graph(column([1]))])
    assert map_tensors(lambda tensor: tensor + 1, graphs).x[0, 0] == 2 and graphs.x[0, 0] == 1


def test_classes_of_torch_s_own_walk():
    class Node:
        def __init__(self, x, names):
            self.x, self.names = x, names

    pytree.register_pytree_node(Node, lambda n: ([n.x, n.names], None), lambda xs, _: Node(*xs))
    taken = take({"node": Node(column([4, 5]), names([4, 5]))}, torch.tensor([1]))["node"]
    assert marks(taken.x) == marks(taken.names) == [5]


def test_slices_of_tensors_are_views():
    x = column([1, 2, 3])
    assert take((x, x), slice(1, 3))[0].data_ptr() == x[1].data_ptr()
