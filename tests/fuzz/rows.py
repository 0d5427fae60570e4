"""rows and the two ops behind it: squared norms and products by their definitions."""

import numpy as np
import torch

from isample import ops
from tests.fuzz.dice import FLOATS, same_bits
from tests.fuzz.judge import Fault, Op, near

F32 = [torch.float32]
SQUARE_ERROR = 4e-6
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


# ---- Inputs --------------------------------------------------------------------------------------


def _shape(dice):
    rows = 0 if dice.odds(20) else dice.size(30)
    rest = [dice.choice((1, 2, 3, 7, 16, 33, 0 if dice.odds(8) else 5))]
    for _ in range(dice.randint(0, 3) - 1):
        rest.append(dice.randint(1, 4))
    if dice.odds(8):
        rest = [dice.choice((511, 512, 513, 1025, 3000))]
    return (rows, *(rest if not dice.odds(8) else []))


def _rows(dice, shape, dtype):
    values = dice.numpy.normal(size=shape) * dice.choice((1.0, 1.0, 1e-3, 1e-20, 1e4, 1e18))
    if values.size and dice.odds(8):
        values[tuple(dice.randrange(side) for side in shape)] = dice.choice((np.nan, np.inf, 0.0))
    layout = LAYOUTS.get(len(shape))
    if layout and dice.odds(2):
        with np.errstate(all="ignore"):
            tensor = torch.from_numpy(values).to(dtype)
        return tensor.contiguous(memory_format=layout)
    return dice.tensor(values, dtype)


def _numbers(dice, rows):
    return dice.tensor(dice.numpy.exponential(size=rows) * dice.choice((0.0, 1.0, 1e3)), F32[0])


def make_add(dice):
    shape = _shape(dice)
    squares = dice.tensor(dice.numpy.exponential(size=shape[0]), torch.float32)
    return {
        "squares": squares if squares.numel() < 2 or squares.stride(0) else squares.contiguous(),
        "gradient": _rows(dice, shape, dice.choice(FLOATS)),
        "scale": dice.choice((1.0, 0.0, -2.0, 1024.0, 1e-9)),
    }


def make_scale(dice):
    given = make_add(dice)
    given["factors"] = _numbers(dice, len(given["gradient"]))
    if dice.odds(2):
        given["squares"] = None
    return given


def make_rows(dice):
    given = make_scale(dice)
    given["z"] = given.pop("gradient").requires_grad_(not dice.odds(4))
    if dice.odds(3):
        given["factors"] = None
    return given


# ---- Rules ---------------------------------------------------------------------------------------


def _rules(rules, name, optional):
    rules.number("scale", np.isfinite)
    if name == "z" and not _all_strided(rules.given):
        return  # to hand z on is right; its backward pass refuses
    rows = rules.tensor(name, FLOATS)
    if rows is None or not rules.require(name, rows.dim() >= 1, "has no rows"):
        return
    for numbers in ("factors", "squares"):
        if numbers in rules.given:
            value = rules.tensor(numbers, F32, shape=rows.shape[:1], optional=numbers in optional)
            if numbers == "squares" and value is not None and value.numel() > 1:
                rules.require(numbers, value.stride(0) != 0, "shares its memory")
    scale = rules.given["scale"]
    if not rules.broken:
        beyond = rows.dtype != torch.float64 and abs(float(scale)) > 3e38
        rules.doubt("scale", not beyond, "is beyond float32")


def _all_strided(given):
    tensors = [value for value in given.values() if isinstance(value, torch.Tensor)]
    return all(each.layout == torch.strided for each in tensors)


def add_rules(rules):
    _rules(rules, "gradient", ())


def scale_rules(rules):
    _rules(rules, "gradient", ("squares",))


def rows_rules(rules):
    _rules(rules, "z", ("factors", "squares"))


# ---- Truth ---------------------------------------------------------------------------------------


def _check_squares(given, after, gradient):
    before = given["squares"].double().numpy()
    with np.errstate(all="ignore"):
        flat = _long(gradient.flatten(1) if gradient.dim() > 1 else gradient[:, None])
        scale = float(given["scale"])
        wide = gradient.dtype == torch.float64
        scaled = flat * np.longdouble(scale if wide else np.float32(scale))
        sums = (scaled**2).sum(1)
        largest = np.abs(scaled).max(1, initial=0)
    if not wide:  # its squares are float32s
        sums[largest > 1.8e19] = np.inf
        sums[np.isnan(scaled).any(1)] = np.nan
    error = SQUARE_ERROR * (sums + np.abs(before)) + scaled.shape[1] * 3e-38
    near("squares", after["squares"].detach(), before + sums, np.where(sums < np.inf, error, 0))


def _check_products(given, got, gradient):
    factors = _long(given["factors"]).reshape(-1, *[1] * (gradient.dim() - 1))
    with np.errstate(all="ignore"):
        expected = _long(gradient) * factors
        error = 1e-7 * np.abs(expected)
    near("products", got, expected, error, gradient.dtype)


def _long(tensor):
    return tensor.detach().double().numpy().astype(np.longdouble)


def check_add(given, after, result):
    if given["gradient"].numel() or len(given["squares"]) == 0:
        _check_squares(given, after, given["gradient"])


def check_scale(given, after, result):
    _check_products(given, result, given["gradient"])
    if given["squares"] is not None:
        check_add(given, after, None)


def check_rows(given, after, result):
    z, factors, squares = after["z"], given["factors"], given["squares"]
    if result is z or not _all_strided(given):
        return
    if not same_bits(result.detach(), z.detach()) or result.data_ptr() != z.data_ptr():
        raise Fault("rows gave another z")
    watched = z.requires_grad and (factors is not None or squares is not None)
    if not watched:
        if not z.requires_grad:
            raise Fault("rows gave a copy of a z that needs no gradient")
        return
    generator = torch.Generator().manual_seed(z.numel())
    upstream = torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z.dtype)
    (got,) = torch.autograd.grad(result, z, upstream)
    if factors is None:
        near("gradient", got, _long(upstream), 0, z.dtype)
    else:
        _check_products(given, got, upstream)
    if squares is not None and z.numel():
        _check_squares(given, after, upstream)


OPS = [
    Op("rows", make_rows, rows_rules, check_rows, ops.rows, writes=("squares",)),
    Op("_add_row_squares", make_add, add_rules, check_add, writes=("squares",), only=("op",)),
    Op("_scale_rows", make_scale, scale_rules, check_scale, writes=("squares",), only=("op",)),
]
