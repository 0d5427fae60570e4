"""Writes states as the isample that is imported gives them, for runs that later versions resume.

    PYTHONPATH=CHECKOUT python tests/states/make.py FILE.pt.xz

It runs with isample 0.1, too; see README.md. The file holds a dict of runs, each with what a user
would save and what became of it: the places of the samples it had trained on in that epoch
(``before``), and places and losses of the steps after it (``after``), each step a pair.
"""

import copy
import lzma
import sys
from itertools import islice

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample

N, b, FEATURES, CLASSES, EPOCHS = 60, 8, 4, 3, 4
IS_OLD = not hasattr(isample, "Engine")
CONTROL = "gate" if IS_OLD else "control"

# Arguments of the trainer, those of its loader, and the step after which it is saved, None once all
# is over: 4 and 12 are in the middle of an epoch of 8, 16 is its last. 17 and 19 are of
# an epoch of 4, whose steps score candidates.
TRAINERS = {
    "memory_always": (dict(mode="memory", control="always"), {}, 12),
    "memory_always_epoch_end": (dict(mode="memory", control="always"), {}, 16),
    "memory_always_workers": (dict(mode="memory", control="always"), dict(num_workers=1), 12),
    "memory_never": (dict(mode="memory", control="never"), {}, 12),
    "memory_speedup": (dict(mode="memory", control="speedup"), {}, 4),
    "memory_speedup_epoch_end": (dict(mode="memory", control="speedup"), {}, 8),
    "memory_speedup_workers": (dict(mode="memory", control="speedup"), dict(num_workers=1), 4),
    "auto_over": ({}, {}, None),
    "auto_fresh": ({}, {}, 0),
    "presample_speedup": (dict(mode="presample", control="speedup"), {}, 12),
    "presample_speedup_epoch_end": (dict(mode="presample", control="speedup"), {}, 16),
    "presample_threshold": (dict(control="threshold", presample=2 * b, tau_threshold=1.1), {}, 12),
    "paper": (dict(paper=True, presample=2 * b, tau_threshold=1.1), {}, 17),
    "paper_epoch_end": (dict(paper=True, presample=2 * b, tau_threshold=1.1), {}, 19),
}


class Net(nn.Module):
    """Of samples whose last feature is their place; ``places`` are those that it was trained on."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(FEATURES, CLASSES).double()
        self.places = []

    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            self.places.append(x[:, -1].long().tolist())
        return self.linear(x[:, :-1])


def make_data():
    random = torch.Generator().manual_seed(1)
    targets = torch.randint(CLASSES, (N,), generator=random)
    centres = torch.randn(CLASSES, FEATURES, generator=random, dtype=torch.float64)
    noise = torch.randn(N, FEATURES, generator=random, dtype=torch.float64)
    places = torch.arange(N, dtype=torch.float64)[:, None]
    return TensorDataset(torch.cat([centres[targets] + noise, places], dim=1), targets)


def make_loader(**options):
    return DataLoader(make_data(), b, shuffle=True, **options)


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def make_trainer(model, paper=False, **options):
    options = {CONTROL if name == "control" else name: value for name, value in options.items()}
    make = isample.Trainer.paper if paper else isample.Trainer
    return make(model, make_optimizer(model), batch_size=b, seed=7, **options)


def make_engine(model, optimizer):
    return isample.Engine(optimizer, head=model.linear, control="always", seed=7)


def state_of(model, optimizer, **others):
    parts = {"model": model, "optimizer": optimizer, **others}
    return copy.deepcopy({name: part.state_dict() for name, part in parts.items()})


def trainer_run(options, loading, save_at):
    model, saved, losses, begun = Net(), {}, [], [0]
    trainer = make_trainer(model, **options)
    torch.manual_seed(11)

    def save():
        saved.update(state_of(model, trainer.optimizer, trainer=trainer))
        saved.update(step=len(losses), epoch=len(begun) - 1)
        saved.update(before=sum(model.places[begun[-1] : len(losses)], []))

    if save_at == 0:
        save()
    epoch = 0
    for report in trainer.iterate(make_loader(**loading), epochs=EPOCHS):
        if epoch != (epoch := epoch_of(trainer)):
            begun.append(len(losses))
        losses.append(report.loss)
        if report.step == save_at:
            save()
    begun.append(len(losses))
    if save_at is None:
        save()
    return {**saved, "after": [*zip(model.places, losses)][saved["step"] :]}


def epoch_of(trainer):
    """A trainer's place, which was called otherwise in 0.1."""
    place = trainer._loop.state_dict()
    return (place if IS_OLD else place["loader"])["epoch"]


def sampler_steps(sampler, step):
    """A sampler in the hands of a DataLoader that fetches two batches ahead, from a ``step`` on."""
    while True:
        ahead = []
        for indices in sampler:
            ahead.append(indices)
            if len(ahead) == 3:
                yield _learn(sampler, ahead.pop(0), step := step + 1)
        for indices in ahead:
            yield _learn(sampler, indices, step := step + 1)


def _learn(sampler, indices, step):
    drawn = sampler.take(indices)
    sampler.update(drawn.indices, 1.0 + torch.sin(drawn.indices + float(step)))
    return drawn.indices.tolist(), drawn.weights.tolist()


def sampler_run(save_at, uniform_epochs):
    options = dict(uniform_epochs=uniform_epochs, half_life=3.0, rebuild_every=5)
    sampler = isample.MemorySampler(N, b, seed=7, **options)
    if IS_OLD:
        sampler.usable, sampler.draw_size = 1.05, 6
    else:
        sampler.follow(isample.Plan(importance=True, keep=6, gain_cap=1.05))
    steps = sampler_steps(sampler, 0)
    before = sum([indices for indices, _ in islice(steps, save_at)], [])
    saved = {"sampler": sampler.state_dict(), "score": sampler.score.tolist()}
    return {**saved, "step": save_at, "before": before, "after": [*islice(steps, 20)]}


def engine_steps(model, optimizer, engine):
    """A plain loop, from where the engine's loader stands; yields losses."""
    loader = engine.loader(make_loader())
    while loader.epoch < EPOCHS:
        for inputs, targets in loader:
            loss = nn.functional.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.item()


def engine_run(save_at):
    model, saved, losses = Net(), {}, []
    optimizer = make_optimizer(model)
    engine = make_engine(model, optimizer)
    torch.manual_seed(11)
    for loss in engine_steps(model, optimizer, engine):
        losses.append(loss)
        if len(losses) == save_at:
            saved = state_of(model, optimizer, engine=engine)
            saved.update(random=torch.get_rng_state(), step=save_at)
    before = sum(model.places[save_at - save_at % 8 : save_at], [])
    return {**saved, "before": before, "after": [*zip(model.places, losses)][save_at:]}


def main(path):
    torch.set_num_threads(1)
    runs = {name: trainer_run(*arguments) for name, arguments in TRAINERS.items()}
    runs["sampler_dealt"] = sampler_run(4, uniform_epochs=2.0)
    runs["sampler_drawn"] = sampler_run(13, uniform_epochs=1.0)
    if not IS_OLD:
        runs["engine_dealt"] = engine_run(4)
        runs["engine_drawn"] = engine_run(12)
    with lzma.open(path, "wb") as file:
        torch.save(runs, file)


if __name__ == "__main__":
    main(sys.argv[1])
