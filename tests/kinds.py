"""The kinds of scores that tables and draws are tested with."""

import torch


def _sparse(n, random):
    score = torch.rand(n, generator=random)
    score[torch.rand(n, generator=random) < 0.6] = 0
    return score


def _one_heavy(n, random):
    score = torch.full((n,), 1e-6)
    score[torch.randint(n, (1,), generator=random)] = 1e6
    return score


KINDS = {
    "all_equal": lambda n, random: torch.full((n,), 0.37),
    "all_zero": lambda n, random: torch.zeros(n),
    "one_heavy": _one_heavy,
    "lognormal": lambda n, random: torch.exp(4 * torch.randn(n, generator=random)),
    "zeros_mixed": _sparse,
    "denormal": lambda n, random: torch.rand(n, generator=random) * 1e-40,
    "powers_of_two": lambda n, random: 2.0 ** -torch.randint(40, (n,), generator=random).float(),
    "uniform": lambda n, random: torch.rand(n, generator=random),
    "pareto": lambda n, random: torch.rand(n, generator=random).clamp_min(1e-7) ** -1.5,
}


def scores(kind, n, seed=0):
    return KINDS[kind](n, torch.Generator().manual_seed(seed))
