"""Networks and data that train in a second, and what runs of a Trainer have in common."""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample

B, b, CLASSES = 60, 12, 5


def make_data(n=360, seed=1):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (n,), generator=generator)
    centres = torch.randn(CLASSES, 8, generator=generator) * 2.0
    return centres[targets] + torch.randn(n, 8, generator=generator), targets


def make_model(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, CLASSES)
    )


def make_trainer(model, **options):
    """The paper's preset."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    options = {"batch_size": b, "presample": B, "tau_threshold": 1.15, "seed": 7} | options
    if options.get("control", "threshold") != "threshold":
        options.pop("tau_threshold")
    return isample.Trainer.paper(model, optimizer, **options)


def parameters_of(model):
    return [p.detach().clone() for p in model.state_dict().values()]


def trained(make, epochs, save_at=None, resume=None):
    """A trainer that ``make(model)`` made, fitted on a shuffling loader and a network with dropout;
    the parameters; and, if ``save_at`` is a step, all state as it was then and whether that step
    was active, for a later ``resume``."""
    model = make_model(dropout=0.3)
    trainer, saved = make(model), {}
    torch.manual_seed(11)
    parts = {"model": model, "optimizer": trainer.optimizer, "trainer": trainer}
    if resume:
        for name, part in parts.items():
            part.load_state_dict(resume[name])

    def save(trainer, report):
        if report.step == save_at:
            states = {name: part.state_dict() for name, part in parts.items()}
            saved.update(copy.deepcopy({**states, "active": report.active}))

    loader = DataLoader(TensorDataset(*make_data()), batch_size=b, shuffle=True)
    trainer.fit(loader, epochs=epochs, callbacks=[save])
    return trainer, parameters_of(model), saved
