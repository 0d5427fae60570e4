"""An epoch ends with its last step: schedule, evaluation and pending gradients."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import isample
from tests.small_training import b, make_data, make_model, parameters_of

pytestmark = pytest.mark.usefixtures("one_thread")

BATCHES = 7
DATA = TensorDataset(*make_data(BATCHES * b))


class Lengthless(IterableDataset):
    def __iter__(self):
        yield from DATA


LOADERS = {
    "memory": lambda: DataLoader(DATA, batch_size=b, shuffle=True),
    "stream": lambda: [*DataLoader(DATA, batch_size=b)],
    "unknown length": lambda: DataLoader(Lengthless(), batch_size=b),
}


def make(control="never", lr=0.5, **options):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    options = {"batch_size": b, "seed": 3} | options
    return isample.Trainer(model, optimizer, control=control, **options)


@pytest.mark.parametrize("control", ["never", "speedup"])
@pytest.mark.parametrize("kind", LOADERS)
def test_schedule_and_evaluation_come_between_two_epochs(kind, control):
    trainer, rates = make(control), []
    trainer.optimizer.register_step_pre_hook(
        lambda optimizer, args, options: rates.append(optimizer.param_groups[0]["lr"])
    )
    loader = LOADERS[kind]()
    scheduler = StepLR(trainer.optimizer, 1, 0.5)
    history = trainer.fit(loader, epochs=3, evaluate=LOADERS["stream"](), scheduler=scheduler)
    assert rates == [0.5] * BATCHES + [0.25] * BATCHES + [0.125] * BATCHES
    assert [e.step for e in history.evaluations] == [BATCHES, 2 * BATCHES, 3 * BATCHES]
    assert scheduler.last_epoch == 3


def resumed_at(step, kind, scheduled):
    """A run that was saved at ``step`` and resumed; its parameters and its schedule."""
    torch.manual_seed(5)
    first, saved = make(), {}
    schedule = StepLR(first.optimizer, 1, 0.5)

    def save(trainer, report):
        if report.step == step:
            parts = first, first.model, first.optimizer, schedule
            saved["all"] = copy.deepcopy([part.state_dict() for part in parts])

    first.fit(LOADERS[kind](), epochs=3, scheduler=schedule, callbacks=[save])
    second = make()
    schedule = StepLR(second.optimizer, 1, 0.5)
    parts = second, second.model, second.optimizer, schedule
    for part, state in zip(parts, saved["all"]):
        part.load_state_dict(state)
    second.fit(LOADERS[kind](), epochs=3, scheduler=schedule)
    return first, second, schedule


@pytest.mark.parametrize("step", [1, BATCHES - 1, BATCHES, BATCHES + 1, 3 * BATCHES])
@pytest.mark.parametrize("kind", LOADERS)
def test_a_run_saved_at_an_epochs_last_step_has_its_end_before_it(kind, step):
    first, second, schedule = resumed_at(step, kind, True)
    assert schedule.last_epoch == 3 and second.step_count == 3 * BATCHES
    for mine, theirs in zip(parameters_of(second.model), parameters_of(first.model)):
        assert torch.equal(mine, theirs)


def test_a_run_that_is_over_is_not_scheduled_again():
    first = make()
    first.fit(LOADERS["memory"](), epochs=2)
    second = make()
    schedule = StepLR(second.optimizer, 1, 0.5)
    second.load_state_dict(first.state_dict())
    second.fit(LOADERS["memory"](), epochs=2, scheduler=schedule, evaluate=LOADERS["stream"]())
    assert schedule.last_epoch == 0 and not second.history.steps
    assert not second.history.evaluations


@pytest.mark.parametrize("kind", LOADERS)
def test_a_run_over_seconds_schedules_whole_epochs_and_is_evaluated_at_its_end(kind):
    trainer = make()
    schedule = StepLR(trainer.optimizer, 1, 0.5)
    history = trainer.fit(
        LOADERS[kind](), seconds=0.1, scheduler=schedule, evaluate=LOADERS["stream"]()
    )
    steps = trainer.step_count
    assert schedule.last_epoch == (steps - 1) // BATCHES
    assert history.evaluations[-1].step == steps
    trainer.fit(LOADERS[kind](), epochs=1)
    assert trainer.step_count == steps + BATCHES, "the next run has whole epochs"


@pytest.mark.parametrize("control", ["never", "always"])
@pytest.mark.parametrize("mode", ["memory", "presample"])
def test_a_run_behind_an_exception_has_whole_epochs(mode, control):
    def fail(trainer, report):
        if report.step == 3:
            raise KeyboardInterrupt

    trainer = make(control, mode=mode)
    loader = LOADERS["memory"]()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(loader, epochs=2, callbacks=[fail])
    before = trainer.history.steps[-1].step
    dealt = []
    if control == "never":
        trainer.model.register_forward_hook(lambda m, args, out: dealt.append(args[0]))
    trainer.fit(loader, epochs=1)
    if control == "never":
        assert trainer.step_count == before + BATCHES
        rows = torch.cat(dealt)
        assert torch.equal(rows.sort(0).values, DATA.tensors[0].sort(0).values)


# ---- Accumulation ------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [2, 4, 16])
def test_the_rest_of_an_epoch_moves_by_its_own_mean(accumulate):
    """Against a plain loop in torch."""
    trainer = make(accumulate=accumulate, lr=0.1)
    losses, batches = [], LOADERS["stream"]()
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        for begin in range(0, BATCHES, accumulate):
            group = batches[begin : begin + accumulate]
            losses = [nn.functional.cross_entropy(model(x), y) for x, y in group]
            optimizer.zero_grad()
            (sum(losses) / len(losses)).backward()
            optimizer.step()
    updates = []
    trainer.optimizer.register_step_post_hook(lambda *_: updates.append(1))
    trainer.fit(batches, epochs=2)
    assert len(updates) == 2 * -(-BATCHES // accumulate)
    for mine, theirs in zip(trainer.model.parameters(), model.parameters()):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)
    trainer.state_dict()


def test_scaled_gradients_of_a_rest_are_unscaled_as_others():
    results = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        trainer = make(accumulate=3, scaler=scaler, clip_grad_norm=0.5, lr=0.1)
        trainer.fit(LOADERS["stream"](), epochs=1)
        results.append(parameters_of(trainer.model))
    for plain, scaled in zip(*results):
        torch.testing.assert_close(plain, scaled, atol=1e-6, rtol=1e-5)


# ---- Whose parameters ---------------------------------------------------------------------------


def test_clipping_sees_the_optimizers_parameters_alone():
    """A part that is not trained gathers gradients, which nobody zeroes or clips."""
    results = []
    for requires_grad in (True, False):
        model = make_model()
        model[0].requires_grad_(requires_grad)
        optimizer = torch.optim.SGD(model[-1].parameters(), lr=0.1)
        trainer = isample.Trainer(
            model, optimizer, batch_size=b, control="never", clip_grad_norm=0.1, seed=0
        )
        trainer.fit(LOADERS["stream"](), epochs=2)
        results.append(parameters_of(model))
    for one, other in zip(*results):
        assert torch.equal(one, other)


class Proxies(nn.Module):
    """A loss with parameters of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, logits, targets):
        return nn.functional.cross_entropy(self.scale * logits, targets, reduction="none")


@pytest.mark.parametrize("which", ["another model's", "a copy's", "some", "a layer of before"])
def test_an_optimizer_of_other_parameters_is_refused(which):
    model = make_model()
    old = model[-1]
    if which == "a layer of before":
        model[-1] = nn.Linear(16, 5)
    parameters = {
        "another model's": [*make_model().parameters()],
        "a copy's": [*copy.deepcopy(model).parameters()],
        "some": [*model.parameters(), *make_model()[0].parameters()],
        "a layer of before": [*model[:-1].parameters(), *old.parameters()],
    }[which]
    with pytest.raises(ValueError, match="optimizer must be of the model's parameters; "):
        isample.Trainer(model, torch.optim.SGD(parameters, 0.1), batch_size=b)


def test_an_optimizer_of_a_part_and_of_the_loss_is_taken():
    model, loss = make_model(), Proxies()
    optimizer = torch.optim.SGD([*model[-1].parameters(), *loss.parameters()], 0.1)
    trainer = isample.Trainer(model, optimizer, loss, batch_size=b, control="never")
    trainer.fit(LOADERS["stream"](), epochs=1)
    assert loss.scale.item() != 1.0


def test_an_end_that_was_broken_off_is_made_up_for():
    """Ctrl-C in the evaluation: the resumed run evaluates that epoch, and steps its schedule."""

    def fail(model, *_):
        if not model.training:
            raise KeyboardInterrupt

    first = make()
    first.model.register_forward_hook(fail)
    schedule = StepLR(first.optimizer, 1, 0.5)
    ends = {"epochs": 3, "evaluate": LOADERS["stream"]()}
    with pytest.raises(KeyboardInterrupt):
        first.fit(LOADERS["memory"](), scheduler=schedule, **ends)
    assert first.step_count == BATCHES and schedule.last_epoch == 0
    second = make()
    second.load_state_dict(first.state_dict())
    schedule = StepLR(second.optimizer, 1, 0.5)
    history = second.fit(LOADERS["memory"](), scheduler=schedule, **ends)
    assert [e.step for e in history.evaluations] == [BATCHES, 2 * BATCHES, 3 * BATCHES]
    assert schedule.last_epoch == 3
