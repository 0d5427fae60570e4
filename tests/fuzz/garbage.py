"""Breaks arguments: wrong types, dtypes, devices, shapes, values, and tables that are none."""

import numpy as np
import torch

DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
)
INTEGERS = (0, 1, -1, -(2**31), 2**33, 2**62, 2**63 - 1, -(2**63), 2**63, 2**64, 10**30)
NUMBERS = (0.5, 1.5, -1e-9, -0.0, 1e300, float("nan"), float("inf"), -float("inf"), 5e-324, 1e39)


def things():
    """What no op asks for, made anew each time."""
    return (
        None,
        "alias",
        "Alias",
        "",
        "\0",
        b"x",
        True,
        1j,
        [],
        [1.0, 0.5],
        ["a"],
        [0.5] * 17,
        {},
        object(),
        int,
        np.int64(3),
        np.float32(0.5),
        np.array([0.5, 1.0]),
        torch.Generator(),
        torch.tensor(1),
        torch.tensor(0.5),
        torch.tensor([]),
        torch.rand(3),
        torch.zeros(2, 2),
        torch.zeros(0, 3),
        torch.zeros(3, dtype=torch.int64),
        torch.eye(3).to_sparse(),
        torch.zeros(3, device="meta"),
    )


def break_some(dice, given):
    """``given`` with one to three arguments broken, dropped, exchanged or added."""
    given = dict(given)
    if dice.odds(12):  # all of them on a device that has no numbers
        return {name: _to(value, "meta") for name, value in given.items()}
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        name = dice.choice(sorted(given))
        kind = dice.randrange(20)
        if kind == 0 and len(given) > 1:
            del given[name]
        elif kind == 1:
            given[name + "s"] = given[name]
        elif kind == 2:
            given[name] = given[dice.choice(sorted(given))]
        elif isinstance(given[name], torch.Tensor) and kind < 16:
            given[name] = _break_tensor(dice, given[name])
        else:
            given[name] = dice.choice(dice.choice((things(), INTEGERS, NUMBERS)))
    return given


def _to(value, device):
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _break_tensor(dice, tensor):
    try:
        return dice.choice(BREAKS)(dice, tensor.detach())
    except (RuntimeError, IndexError, TypeError, ValueError):  # not every tensor breaks every way
        return tensor


def _ask_gradient(dice, tensor):
    return tensor.clone().requires_grad_()


def _sprinkle(dice, tensor):
    """A strange number or two in a copy."""
    copy = tensor.clone().contiguous()
    flat = copy.view(-1)
    limits = (torch.finfo if copy.dtype.is_floating_point else torch.iinfo)(copy.dtype)
    odd = [limits.max, limits.min, -1, 0, 1]
    if copy.dtype.is_floating_point:
        odd += [float("nan"), float("inf"), -float("inf"), limits.tiny]
    for _ in range(dice.randint(1, 2)):
        flat[dice.randrange(len(flat))] = dice.choice(odd)
    return copy


def _any_bits(dice, tensor):
    """A copy of which every byte is by chance."""
    noise = dice.numpy.integers(0, 256, tensor.numel() * tensor.element_size(), dtype=np.uint8)
    return torch.from_numpy(noise).view(tensor.dtype).view(tensor.shape)


def _inference(dice, tensor):
    with torch.inference_mode():
        return tensor.clone()


BREAKS = (
    lambda dice, tensor: tensor.to(dice.choice(DTYPES)),
    lambda dice, tensor: tensor.to("meta"),
    lambda dice, tensor: tensor.unsqueeze(dice.randint(0, tensor.dim())),
    lambda dice, tensor: tensor[0],
    lambda dice, tensor: tensor[:-1],
    lambda dice, tensor: tensor[:0],
    lambda dice, tensor: torch.cat([tensor, tensor[:1]]),
    lambda dice, tensor: torch.cat([tensor, tensor])[::2],
    lambda dice, tensor: tensor[:1].expand_as(tensor),
    lambda dice, tensor: tensor.t(),
    lambda dice, tensor: tensor.flip(0),
    lambda dice, tensor: -tensor,
    lambda dice, tensor: torch.zeros_like(tensor),
    lambda dice, tensor: tensor * 2**20,
    lambda dice, tensor: tensor.to_sparse(),
    lambda dice, tensor: torch.nn.Parameter(tensor),
    lambda dice, tensor: tensor.numpy(),
    lambda dice, tensor: tensor.tolist(),
    _ask_gradient,
    _inference,
    _sprinkle,
    _sprinkle,
    _sprinkle,
    _any_bits,
)
