"""What holds for every setting of an engine in a loop of one's own, on settings drawn at random."""

import copy
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import isample
from tests.test_properties import Net, Numbered, examples

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]

EPOCHS = 3
SETTINGS = {
    "size": st.integers(9, 60),
    "batch_size": st.integers(2, 9),
    "drop_last": st.booleans(),
    "form": st.sampled_from(("tensor", "tuple", "dict")),
    "stream": st.booleans(),
    "adapt": st.sampled_from(("lr", "batch", None)),
    "point": st.sampled_from(("head", "rows", "loss")),
    "every": st.integers(1, 3),
}


class Loop:
    """A plain loop over ``epochs`` with an engine of the drawn settings, or with none."""

    def __init__(self, control, **drawn):
        self.drawn = drawn
        torch.manual_seed(0)
        self.net = Net()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.5)
        data = Numbered(drawn["size"], drawn["form"], "cross_entropy")
        loader = DataLoader(data, drawn["batch_size"], shuffle=True, drop_last=drawn["drop_last"])
        self.loader = [*loader] if drawn["stream"] else loader
        self.engine = None
        if control is not None:
            point = drawn["point"]
            self.engine = isample.Engine(
                self.optimizer,
                head=self.net.last if point == "head" else None,
                model=self.net if point == "loss" or drawn["stream"] else None,
                loss="cross_entropy" if point == "loss" or drawn["stream"] else None,
                control=control,
                adapt=drawn["adapt"],
                batch_size=drawn["batch_size"],
                seed=3,
            )
            self.loader = self.engine.loader(self.loader)
        self.updates = 0

    def train(self, epochs=EPOCHS, stop=None):
        """Accumulates ``every`` batches to an update; leaves the epoch at the ``stop``-th one."""
        done = 0
        for _ in range(epochs):
            pending = 0
            for inputs, targets in self.loader:
                self.loss(inputs, targets).backward()
                pending += 1
                if pending == self.drawn["every"]:
                    self.update()
                    pending, done = 0, done + 1
                    if done == stop:
                        return self
            if pending:
                self.update()
                done += 1
        return self

    def loss(self, inputs, targets):
        given = inputs if isinstance(inputs, dict) else None
        spread = inputs if isinstance(inputs, tuple | list) else (inputs,)
        logits = self.net(**given) if given is not None else self.net(*spread)
        if self.engine is not None and self.drawn["point"] == "rows":
            logits = self.engine.rows(logits)
        if self.engine is not None and self.drawn["point"] == "loss":
            return self.engine.loss(logits, targets)
        return F.cross_entropy(logits, targets)

    def update(self):
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.updates += 1

    @property
    def parameters(self):
        return [p.detach().clone() for p in self.net.parameters()]

    @property
    def batches(self):
        whole, rest = divmod(self.drawn["size"], self.drawn["batch_size"])
        return whole + (rest > 0 and not self.drawn["drop_last"])


@examples(20)
@given(**SETTINGS)
def test_an_engine_that_never_draws_makes_no_difference(**drawn):
    """Samples once an epoch, and parameters as without it: bit for bit by ``rows`` and ``head``,
    within the rounding of one fused op by ``loss``."""
    torch.manual_seed(1)
    plain = Loop(None, **drawn).train()
    torch.manual_seed(1)
    loop = Loop("never", **drawn).train()
    assert loop.updates == plain.updates
    whole = drawn["size"] if not drawn["drop_last"] else loop.batches * drawn["batch_size"]
    seen = torch.cat(loop.net.seen).tolist()
    assert len(seen) == EPOCHS * whole
    for epoch in range(EPOCHS):
        assert max(Counter(seen[epoch * whole : (epoch + 1) * whole]).values()) == 1
    for mine, theirs in zip(loop.parameters, plain.parameters):
        assert mine.shape == theirs.shape
        if drawn["stream"]:  # dealt in the same order
            close = (
                {"atol": 1e-6, "rtol": 1e-5} if drawn["point"] == "loss" else {"atol": 0, "rtol": 0}
            )
            torch.testing.assert_close(mine, theirs, **close)
    assert loop.optimizer.param_groups[0]["lr"] == 0.05
    assert len(loop.engine.history.steps) == EPOCHS * loop.batches


@examples(20)
@given(**SETTINGS)
def test_an_engine_that_always_draws_weighs_and_reports_every_batch(**drawn):
    loop = Loop("always", **drawn).train()
    steps = loop.engine.history.steps
    assert [report.step for report in steps] == list(range(1, len(steps) + 1))
    assert loop.optimizer.param_groups[0]["lr"] == 0.05
    assert all(p.isfinite().all() for p in loop.parameters)
    drawn_steps = [report for report in steps if report.active]
    assert all(0 < r.weight_min <= r.weight_max for r in drawn_steps)
    if not drawn["stream"]:
        assert drawn_steps, "a memory draws once all data was seen"


@examples(15)
@given(**{**SETTINGS, "stream": st.just(False)}, stop=st.integers(1, 8))
def test_a_run_resumed_anywhere_is_the_whole_run(stop, **drawn):
    torch.manual_seed(2)
    whole = Loop("always", **drawn)
    first = min(stop, -(-whole.batches // drawn["every"]))
    saved = {}

    def save(optimizer, *_):
        if whole.updates + 1 == first and not saved:
            saved["due"] = True

    whole.optimizer.register_step_post_hook(save)
    update = whole.update

    def updating():
        update()
        if saved.pop("due", False):
            parts = (whole.engine, whole.net, whole.optimizer)
            saved["all"] = copy.deepcopy([part.state_dict() for part in parts])

    whole.update = updating
    whole.train()
    torch.manual_seed(9)
    again = Loop("always", **drawn)
    for part, state in zip((again.engine, again.net, again.optimizer), saved["all"]):
        part.load_state_dict(state)
    while again.loader.epoch < EPOCHS:
        again.train(epochs=1)
    assert all(map(torch.equal, again.parameters, whole.parameters))
