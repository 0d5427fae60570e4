"""A whole run in one file, which is the old or the new one at any moment."""

import os

import pytest
import torch
from torch.optim import lr_scheduler as schedules
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.training import checkpoint
from tests.small_training import b, make_data, make_model, parameters_of

pytestmark = pytest.mark.usefixtures("one_thread")

BATCHES, EPOCHS = 8, 4
DATA = TensorDataset(*make_data(BATCHES * b))


def make_loader():
    return DataLoader(DATA, batch_size=b, shuffle=True)


class Run:
    """Model, optimizer, schedule and trainer, made as a script makes them."""

    def __init__(self, schedule=None, seed=0, **options):
        torch.manual_seed(seed)
        self.model = make_model(seed, dropout=0.3)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.schedule = None if schedule is None else schedule(self.optimizer)
        options = {"batch_size": b, "control": "always", "mode": "memory", "seed": 3} | options
        self.trainer = isample.Trainer(self.model, self.optimizer, **options)

    def fit(self, path=None, at=None):
        def save(trainer, report):
            if report.step == at:
                trainer.save(path)

        callbacks = [] if path is None else [save]
        self.trainer.fit(make_loader(), epochs=EPOCHS, scheduler=self.schedule, callbacks=callbacks)
        return self


def cycle(optimizer):
    """A schedule of two in turn, one of which cycles momentum."""
    return schedules.SequentialLR(
        optimizer,
        [
            schedules.LinearLR(optimizer, total_iters=1),
            schedules.OneCycleLR(optimizer, max_lr=0.02, total_steps=9),
        ],
        milestones=[1],
    )


SCHEDULES = {
    "none": None,
    "steps": lambda optimizer: schedules.StepLR(optimizer, 1, 0.5),
    "milestones": lambda optimizer: schedules.MultiStepLR(optimizer, [1, 3], 0.1),
    "function": lambda optimizer: schedules.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch)),
    "restarts": lambda optimizer: schedules.CosineAnnealingWarmRestarts(optimizer, 2),
    "two in turn": cycle,
}


@pytest.mark.parametrize("made", ["before", "after"])
@pytest.mark.parametrize("at", [13, 16])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_goes_on_from_a_file(tmp_path, name, at, made):
    """Bit for bit; also where the scheduler is made behind the loading, which sets rates anew."""
    path = tmp_path / "run"
    whole = Run(SCHEDULES[name]).fit(path, at)
    again = Run(SCHEDULES[name] if made == "before" else None, seed=1)
    isample.load(path, again.trainer)
    if made == "after" and name != "none":
        again.schedule = SCHEDULES[name](again.optimizer)
    again.fit()
    for mine, theirs in zip(parameters_of(again.model), parameters_of(whole.model)):
        assert torch.equal(mine, theirs)
    assert torch.equal(again.trainer.memory.score, whole.trainer.memory.score)
    rates = [run.optimizer.param_groups[0]["lr"] for run in (again, whole)]
    assert rates[0] == rates[1]


@pytest.mark.parametrize("which", ["memory", "presample"])
def test_a_file_is_the_state_and_the_rest(tmp_path, which):
    run = Run(SCHEDULES["steps"], mode=which, scaler=torch.amp.GradScaler("cpu"))
    run.fit()
    run.trainer.save(tmp_path / "run")
    state = isample.load(tmp_path / "run")
    assert state["scheduler"] == run.schedule.state_dict() and state["scaler"]["scale"] > 0
    for name, value in run.model.state_dict().items():
        assert torch.equal(state["model"][name], value)
    other = Run(SCHEDULES["steps"], seed=1, mode=which, scaler=torch.amp.GradScaler("cpu"))
    other.trainer.load_state_dict(state)
    for mine, theirs in zip(parameters_of(other.model), parameters_of(run.model)):
        assert torch.equal(mine, theirs)


def test_a_schedule_that_is_missing_is_named(tmp_path):
    Run(SCHEDULES["steps"]).fit(tmp_path / "run", 12)
    other = Run()
    isample.load(tmp_path / "run", other.trainer)
    with pytest.raises(isample.StateError, match="scheduler must be given to fit"):
        other.fit()
    schedule = SCHEDULES["steps"](other.optimizer)
    isample.load(tmp_path / "run", other.trainer, scheduler=schedule)
    assert schedule.last_epoch == 1


@pytest.mark.parametrize("other", ["model", "optimizer", "scaler", "arguments"])
def test_a_run_of_another_kind_is_refused_whole(tmp_path, other):
    Run().fit(tmp_path / "run", 12)
    options = {"scaler": torch.amp.GradScaler("cpu")} if other == "scaler" else {}
    run = Run(seed=1, **options, accumulate=2 if other == "arguments" else 1)
    if other == "model":
        run.model[-1] = torch.nn.Linear(16, 7)
    if other == "optimizer":
        run.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))]})
    before = parameters_of(run.model)
    with pytest.raises(isample.StateError, match="accumulate" if other == "arguments" else other):
        isample.load(tmp_path / "run", run.trainer)
    assert all(map(torch.equal, parameters_of(run.model), before))
    assert run.trainer.step_count == 0 and not run.optimizer.state


def test_damaged_and_foreign_files(tmp_path):
    run = Run()
    run.trainer.save(tmp_path / "run")
    whole = (tmp_path / "run").read_bytes()
    for name, data in {
        "short": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"no checkpoint",
    }.items():
        (tmp_path / name).write_bytes(data)
    torch.save(run.model.state_dict(), tmp_path / "model")
    for name in ("short", "empty", "text", "model"):
        with pytest.raises(isample.StateError, match=f"{name}|what Trainer.state_dict"):
            isample.load(tmp_path / name, run.trainer)
    with pytest.raises(FileNotFoundError):
        isample.load(tmp_path / "nowhere")


@pytest.mark.parametrize("call", ["save", "fsync", "replace"])
def test_a_file_is_whole_whatever_fails(tmp_path, monkeypatch, call):
    """The disk is full, or Ctrl-C comes, at each of the calls that write."""
    path = tmp_path / "run"
    run = Run()
    run.trainer.save(path)
    before = path.read_bytes()
    run.trainer.fit(make_loader(), epochs=1)
    module = checkpoint.torch if call == "save" else checkpoint.os

    def fail(*args, **options):
        if call == "save":
            args[1].write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, call, fail)
    with pytest.raises(KeyboardInterrupt):
        run.trainer.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["run"]
