"""What an op promises, as data: how to make its arguments, which rules they keep, what is right."""

import operator
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from tests.fuzz.dice import same_bits


class Fault(Exception):
    """An op broke a promise."""


@dataclass(frozen=True)
class Op:
    name: str  # of torch.ops.isample
    make: Callable  # dice -> {name: argument}
    rules: Callable  # (Rules) -> None
    check: Callable  # (given, after, result) -> None, raises Fault
    wrapper: Callable | None = None  # of the same arguments
    writes: tuple[str, ...] = ()  # what it changes in place
    only: tuple[str, ...] = ("op", "wrapper")  # the faces that there are
    looks: bool = False  # whether the op itself looks at what a table holds; wrappers do


@dataclass
class Rules:
    """Collects what ``given``, the arguments of a call with its defaults, break.

    ``broken`` must be refused. What is ``doubtful`` may be refused, or taken and answered right.
    """

    given: dict
    looks: bool  # whether who is called looks at what a table holds
    face: str
    unmade: bool = False  # whether a table, which nobody looks at, is none
    broken: list = field(default_factory=list)
    doubtful: list = field(default_factory=list)

    def require(self, name, holds, rule):
        if not holds:
            self.broken.append(f"{name} {rule}")
        return bool(holds)

    def doubt(self, name, holds, rule):
        if not holds:
            self.doubtful.append(f"{name} {rule}")

    def contents(self, name, holds, rule):
        """Of a table: broken if somebody looks, else what is drawn from it is anyone's guess."""
        if self.looks:
            return self.require(name, holds, rule)
        self.unmade |= not holds
        return holds

    def tensor(self, name, dtypes, dim=None, *, optional=False, shape=None):
        """The tensor where it is one and keeps the rules, else None."""
        value = self.given[name]
        if optional and value is None:
            return None
        if not self.require(name, isinstance(value, torch.Tensor), "is no tensor"):
            return None
        kept = [
            self.require(name, value.dtype in dtypes, f"is {value.dtype}"),
            self.require(name, dim is None or value.dim() == dim, f"has shape {value.shape}"),
            self.require(
                name, shape is None or tuple(value.shape) == tuple(shape), f"is {value.shape}"
            ),
            self.require(name, value.layout == torch.strided, "is not strided"),
            self.require(name, value.device.type == "cpu", "is not on the CPU"),
        ]
        return value if all(kept) else None

    def scores(self, name="score"):
        """Scores as draws take them. An op answers invalid ones with NaN, its wrapper refuses."""
        score = self.tensor(name, [torch.float32], 1)
        if score is None or not self.require(name, len(score) >= 1, "is empty"):
            return None
        valid = bool((score.isfinite() & (score >= 0)).all())
        if self.face == "wrapper":
            self.require(name, valid, "is not finite and at least 0")
        return score

    def integer(self, name, least, most, *, optional=False, doubtful_from=None):
        value = self.given[name]
        if optional and value is None:
            return None
        number = as_integer(value)
        if not self.require(name, number is not None, "is no integer"):
            return None
        self.doubt(name, type(value) is int, "is an integer of another type")
        kept = self.require(name, least <= number <= most, f"is {number}")
        self.doubt(name, doubtful_from is None or number < doubtful_from, f"is {number}")
        return number if kept else None

    def number(self, name, holds, *, optional=False):
        value = self.given[name]
        if optional and value is None:
            return None
        number = as_float(value)
        if not self.require(name, number is not None, "is no number"):
            return None
        self.doubt(name, type(value) in (int, float), "is a number of another type")
        return number if self.require(name, holds(number), f"is {number}") else None

    def share(self, name):
        return self.number(name, lambda value: 0 <= value <= 1)

    def word(self, name, words):
        value = self.given[name]
        known = isinstance(value, str) and value in words
        return value if self.require(name, known, f"is {value!r:.60}") else None

    def stream(self):
        """seed, offset and generator."""
        self.integer("seed", -(2**63), 2**64 - 1, optional=True, doubtful_from=2**63)
        self.integer("offset", 0, 2**64 - 1, doubtful_from=2**63)
        source = self.given["generator"]
        kept = source is None or isinstance(source, torch.Generator)
        self.require("generator", kept, "is no generator")


def as_integer(value):
    """The integer that torch reads, which it also finds in a tensor of one number; or None."""
    try:
        return int(_real(value.item())) if is_one_number(value) else operator.index(value)
    except (TypeError, RuntimeError, ValueError, OverflowError):
        return None


def as_float(value):
    if isinstance(value, (str, bytes, complex)):
        return None
    if isinstance(value, np.ndarray) and value.ndim > 0:
        return None
    if isinstance(value, torch.Tensor) and not is_one_number(value):
        return None
    try:
        return float(_real(value.item()) if is_one_number(value) else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def _real(number):
    return number.real if isinstance(number, complex) and number.imag == 0 else number


def is_one_number(value):
    if isinstance(value, np.generic):
        return True
    return isinstance(value, torch.Tensor) and value.numel() == 1 and value.device.type == "cpu"


# ---- Comparisons ---------------------------------------------------------------------------------


def exact(what, got, expected):
    """The same dtype, shape and numbers; NaN equals NaN, and 0.0 equals -0.0."""
    if not isinstance(got, torch.Tensor) or got.dtype != expected.dtype:
        raise Fault(f"{what} is {describe(got)}, not of {expected.dtype}")
    if got.shape != expected.shape:
        raise Fault(f"{what} has shape {list(got.shape)}, not {list(expected.shape)}")
    if got.dtype.is_floating_point:
        same = (got == expected) | (got.isnan() & expected.isnan())
        if not same.all():
            _tell(what, got.double().numpy(), expected.double().numpy(), ~same.numpy())
    elif not same_bits(got, expected):
        _tell(what, got.numpy(), expected.numpy(), (got != expected).numpy())


def near(what, got, expected, error, dtype=torch.float32, *, beyond=False):
    """``got``, of ``dtype``, is within ``error`` of ``expected``, or either side of overflow.

    Where ``beyond`` holds, the way to the result may leave the range of floats: it may be no
    number instead.
    """
    expected, error = np.asarray(expected), np.asarray(error)
    if not isinstance(got, torch.Tensor) or got.dtype != dtype:
        raise Fault(f"{what} is {describe(got)}, not of {dtype}")
    if tuple(got.shape) != expected.shape:
        raise Fault(f"{what} has shape {list(got.shape)}, not {list(expected.shape)}")
    values, limits = got.detach().double().numpy(), torch.finfo(dtype)
    truth = expected.astype(np.longdouble)
    with np.errstate(all="ignore"):
        slack = error + limits.eps * np.abs(truth) + limits.smallest_normal * limits.eps
        top = np.longdouble(limits.max)
        close = np.abs(values - truth) <= slack
        close |= (values == truth) | np.isnan(values) & np.isnan(truth)
        close |= beyond & ~np.isfinite(values)
        close |= (values == np.inf) & (truth + slack >= top)
        close |= (values == -np.inf) & (truth - slack <= -top)
    if not close.all():
        _tell(what, values, truth, ~close)


def unchanged(what, after, before):
    if not same_bits(after.detach(), before.detach()):
        raise Fault(f"{what} was changed")


def describe(value):
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{list(value.shape)} on {value.device}"
    return f"{type(value).__name__} {value!r:.60}"


def _tell(what, got, expected, wrong):
    place = tuple(int(axis[0]) for axis in np.nonzero(np.atleast_1d(wrong)))
    pair = np.atleast_1d(got)[place], np.atleast_1d(expected)[place]
    raise Fault(f"{what}{list(place)} is {pair[0]!r}, not {pair[1]!r}; {int(wrong.sum())} differ")
