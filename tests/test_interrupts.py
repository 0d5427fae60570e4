"""Ctrl-C, and exceptions at any place, leave nothing half done."""

import gc
import os
import signal
import threading

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.support.interrupts import INTERRUPTS, evaluation_mode, undone_after_failure
from tests.engine_loop import loss_of, make_engine, make_loader, make_optimizer
from tests.engine_loop import make_model as make_engine_model
from tests.small_training import b, make_data, make_model

pytestmark = pytest.mark.usefixtures("one_thread", "python_s_handler")

BATCHES = 6
DATA = TensorDataset(*make_data(BATCHES * b))


def interrupt():
    """What Ctrl-C does: the handler has run when this returns."""
    signal.raise_signal(signal.SIGINT)


class Interrupting(torch.nn.Module):
    """Calls ``then`` in its n-th forward pass in training."""

    def __init__(self, n, then):
        super().__init__()
        self.inner, self.left, self.then = make_model(), n, then

    def forward(self, x):
        self.left -= self.training
        if self.left == 0 and self.training:
            self.then()
        return self.inner(x)


def make(model, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"batch_size": b, "control": "always", "seed": 1} | options
    return isample.Trainer(model, optimizer, **options)


def loader():
    return DataLoader(DATA, batch_size=b, shuffle=True)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("mode", ["memory", "presample"])
def test_ctrl_c_waits_for_the_end_of_the_update(mode, accumulate):
    model = Interrupting(5, interrupt)
    trainer = make(model, mode=mode, accumulate=accumulate)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(loader(), epochs=4)
    steps = trainer.step_count
    assert steps % accumulate == 0 and steps == len(trainer.history.steps) > 0
    trainer.state_dict()
    assert signal.getsignal(signal.SIGINT) == before
    trainer.fit(loader(), epochs=1)
    assert trainer.step_count > steps


def test_a_second_one_does_not_wait():
    def twice():
        interrupt()
        interrupt()
        pytest.fail("the second one was held")

    trainer = make(Interrupting(3, twice), mode="memory")
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(loader(), epochs=4)
    assert trainer.step_count == 2
    trainer.state_dict()
    assert all(p.grad is None for p in trainer.model.parameters())


def test_a_state_after_ctrl_c_goes_on_bit_for_bit():
    parameters = []
    for n in (0, 9):  # never, or in the second epoch
        torch.manual_seed(4)
        trainer = make(Interrupting(n, interrupt), mode="memory")
        if n == 0:
            trainer.fit(loader(), epochs=3)
        else:
            with pytest.raises(KeyboardInterrupt):
                trainer.fit(loader(), epochs=3)
            state, values = trainer.state_dict(), trainer.model.state_dict()
            trainer = make(Interrupting(0, interrupt), mode="memory")
            trainer.model.load_state_dict(values)
            trainer.load_state_dict(state)
            trainer.fit(loader(), epochs=3)
        parameters.append([p.detach() for p in trainer.model.parameters()])
    assert all(map(torch.equal, *parameters))


def test_a_handler_of_the_programs_own_stays():
    came = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append(1))
    try:
        make(Interrupting(2, interrupt), mode="memory").fit(loader(), epochs=1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert came == [1]


def test_training_in_another_thread():
    errors = []

    def train():
        try:
            make(make_model(), mode="memory").fit(loader(), epochs=1)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert not errors


def test_runs_in_turns_hold_and_let_go():
    """The handler goes with the last of them; one that is dropped holds nothing."""
    gc.collect()
    before = signal.getsignal(signal.SIGINT)
    steps = [make(make_model(), mode="memory").iterate(loader(), epochs=2) for _ in range(2)]
    for run in steps:
        next(run)
    assert signal.getsignal(signal.SIGINT) == INTERRUPTS._handle
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass
    for run in steps:
        run.close()
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("where", ["forward", "evaluation", "callback", "optimizer", "scoring"])
@pytest.mark.parametrize("mode", ["memory", "presample"])
def test_an_exception_leaves_modes_rates_and_switches_as_they_were(mode, where):
    def fail(*_):
        raise KeyboardInterrupt

    class Failing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.calls = make_model(), 0

        def forward(self, x):
            self.calls += 1
            scoring = where == "scoring" and not self.training and self.calls > BATCHES
            if scoring or (where == "forward" and self.training and self.calls > 2 * BATCHES):
                fail()
            return self.inner(x)

    model = Failing()
    model.inner[1].eval()  # statistics that are frozen
    trainer = make(model, mode=mode, presample=3 * b if mode == "presample" else None)
    modes = [module.training for module in model.modules()]
    if where == "optimizer":
        trainer.optimizer.register_step_post_hook(
            lambda *_: fail() if trainer.step_count > 9 else None
        )
    evaluation = [(x, y) for x, y in loader()]
    if where == "evaluation":
        handle = model.register_forward_hook(lambda m, *_: None if m.training else fail())
    try:
        trainer.fit(
            loader(),
            epochs=9,
            evaluate=evaluation if where == "evaluation" else None,
            callbacks=[fail] if where == "callback" else [],
        )
    except KeyboardInterrupt:
        pass
    else:
        assert where == "scoring" and mode == "memory", "nothing is scored there"
    if where == "evaluation":
        handle.remove()
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    assert trainer.optimizer.param_groups[0]["lr"] == 0.1
    trainer.state_dict()


def test_what_a_context_manager_left_is_undone():
    """An exception within its own exit."""
    model = make_model()
    model[0].eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(KeyboardInterrupt), undone_after_failure():
        evaluation_mode(model).__enter__()  # whose exit never comes
        torch.no_grad().__enter__()
        torch.autocast("cpu", torch.bfloat16).__enter__()
        raise KeyboardInterrupt
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


def test_an_optimizers_state_has_the_users_rate_whatever_broke_its_step_off():
    """In a loop of one's own; and the batch behind it is weighed by its own weights."""
    model = make_engine_model()
    optimizer = make_optimizer(model)
    own = optimizer.param_groups[0]["lr"]
    engine = make_engine(model, optimizer, adapt="lr")
    seen, fails = [], []

    def fail(*_):
        seen.append(optimizer.param_groups[0]["lr"])
        if seen[-1] > own:
            fails.append(optimizer.param_groups[0]["lr"])
            raise KeyboardInterrupt

    optimizer.register_step_pre_hook(fail)
    batches = engine.loader(make_loader())
    for _ in range(20):
        try:
            for batch in batches:
                optimizer.zero_grad()
                loss_of(model, batch).backward()
                optimizer.step()
        except KeyboardInterrupt:
            break
    assert fails, "no rate was raised"
    assert optimizer.state_dict()["param_groups"][0]["lr"] == own


def test_a_hold_that_was_broken_off_holds_nothing():
    """Also while another run waits for its caller."""
    other = make(make_model(), mode="memory").iterate(loader(), epochs=2)
    next(other)
    with pytest.raises(KeyboardInterrupt), INTERRUPTS.handled():
        INTERRUPTS.hold()
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    other.close()
