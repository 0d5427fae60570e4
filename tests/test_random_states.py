"""A resumed run deals what the whole one does, whichever generator its loader draws from."""

import io
import random

import numpy
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler

import isample
from isample.support.random_state import generator_state, is_generator, restore_generator

b, N, STEPS = 8, 40, 15  # three epochs


class Data(Dataset):
    """Items with noise of ``noise()``."""

    def __init__(self, noise=lambda: 0.0):
        self.noise = noise

    def __len__(self):
        return N

    def __getitem__(self, index):
        return torch.tensor([index + self.noise()], dtype=torch.float32), index % 4


class Shuffling(Sampler):
    """By a generator of its own, of numpy or of Python, under a name of its own."""

    def __init__(self, generator):
        self._mine = generator

    def __len__(self):
        return N

    def __iter__(self):
        order = list(range(N))
        self._mine.shuffle(order)
        return iter(order)


class OwnNoise(Data):
    def __init__(self, generator):
        self.generator = generator
        super().__init__(generator.random)


def generator():
    return torch.Generator().manual_seed(4)


def by_sampler(sampler):
    return DataLoader(Data(), b, sampler=sampler)


LOADERS = {
    "generator": lambda: DataLoader(Data(), b, shuffle=True, generator=generator()),
    "workers": lambda: DataLoader(
        Data(lambda: torch.rand(()).item()), b, shuffle=True, num_workers=1, generator=generator()
    ),
    "sampler": lambda: by_sampler(RandomSampler(Data(), generator=generator())),
    "with replacement": lambda: by_sampler(
        RandomSampler(Data(), True, num_samples=N, generator=generator())
    ),
    "batch sampler": lambda: DataLoader(
        Data(),
        batch_sampler=BatchSampler(RandomSampler(Data(), generator=generator()), b, False),
    ),
    "numpy's sampler": lambda: by_sampler(Shuffling(numpy.random.default_rng(4))),
    "numpy's older sampler": lambda: by_sampler(Shuffling(numpy.random.RandomState(4))),
    "Python's sampler": lambda: by_sampler(Shuffling(random.Random(4))),
    "data set": lambda: DataLoader(OwnNoise(numpy.random.default_rng(4)), b, shuffle=True),
    "global ones": lambda: DataLoader(
        Data(lambda: random.random() + numpy.random.rand() + torch.rand(()).item()), b, shuffle=True
    ),
}
EXACT_IN_MEMORY = ("generator", "sampler", "data set", "global ones")


def seed_all(seed):
    torch.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed)


class Run:
    def __init__(self, loader, **options):
        self.model, self.seen = nn.Linear(1, 4), []
        self.model.register_forward_pre_hook(lambda _, args: self.seen.append(args[0].tolist()))
        self.trainer = isample.Trainer(
            self.model,
            torch.optim.SGD(self.model.parameters(), 1e-6),
            batch_size=b,
            seed=0,
            control="never",
            **options,
        )
        self.loader, self.saved = loader, {}

    def fit(self, save_at=None):
        def save(trainer, report):
            if report.step == save_at:
                file = io.BytesIO()
                torch.save(trainer.state_dict(), file)
                file.seek(0)
                self.saved = torch.load(file, weights_only=True)

        self.trainer.fit(self.loader, epochs=3, callbacks=[save])


@pytest.mark.parametrize("save_at", [1, 5, 7, 10])
@pytest.mark.parametrize(
    "name,mode",
    [(name, "presample") for name in LOADERS] + [(name, "memory") for name in EXACT_IN_MEMORY],
)
def test_a_resumed_run_is_dealt_the_same(name, mode, save_at):
    seed_all(1)
    whole = Run(LOADERS[name](), mode=mode)
    whole.fit(save_at)
    assert len(whole.seen) == STEPS and whole.seen[:5] != whole.seen[5:10]
    seed_all(2)
    resumed = Run(LOADERS[name](), mode=mode)
    resumed.trainer.load_state_dict(whole.saved)
    resumed.fit()
    assert resumed.seen == whole.seen[save_at:]


@pytest.mark.parametrize("mode", ["presample", "memory"])
def test_a_state_between_two_epochs(mode):
    """An engine's, whose loader has nothing under way."""

    def make():
        model = nn.Linear(1, 4)
        optimizer = torch.optim.SGD(model.parameters(), 1e-6)
        engine = isample.Engine(optimizer, head=model, control="never", batch_size=b, seed=0)
        loader = LOADERS["generator"]()
        return engine, engine.loader(loader if mode == "memory" else Wrapped(loader))

    def epoch(engine, loader):
        seen = []
        for inputs, _ in loader:
            seen.append(inputs.tolist())
            engine.skip()
        return seen

    engine, loader = make()
    epoch(engine, loader)
    state = engine.state_dict()
    expected = [epoch(engine, loader) for _ in range(2)]
    other, loader = make()
    other.load_state_dict(state)
    assert [epoch(other, loader) for _ in range(2)] == expected


class Wrapped:
    """A loader around another, which is no DataLoader."""

    def __init__(self, loader):
        self.dataset, self.sampler = loader.dataset, loader.sampler
        self.loader = loader

    def __iter__(self):
        return iter(self.loader)


BITS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


@pytest.mark.parametrize(
    "make",
    [
        *(
            lambda bits=bits: numpy.random.Generator(getattr(numpy.random, bits)(3))
            for bits in BITS
        ),
        lambda: numpy.random.RandomState(3),
        lambda: random.Random(3),
    ],
)
def test_a_generator_s_state_is_of_plain_types(make):
    mine = make()
    mine.random()
    file = io.BytesIO()
    torch.save(generator_state(mine), file)
    file.seek(0)
    expected, other = [mine.random() for _ in range(5)], make()
    restore_generator(other, torch.load(file, weights_only=True))
    assert is_generator(other) and [other.random() for _ in range(5)] == expected


def test_the_operating_system_s_generator_has_no_state():
    assert not is_generator(random.SystemRandom()) and not is_generator(3)
