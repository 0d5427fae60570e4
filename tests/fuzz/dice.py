"""Random numbers, shapes, values and memory layouts, all of one seed."""

import random

import numpy as np
import torch

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
DENORMAL, TINY, HUGE = 1e-45, 1.1754944e-38, 3.4028235e38


class Dice(random.Random):
    """``random.Random`` that also makes arrays and tensors."""

    def __init__(self, seed):
        super().__init__(seed)
        self.numpy = np.random.default_rng(seed % 2**63)

    def odds(self, one_in):
        return self.randrange(one_in) == 0

    def size(self, most=200):
        """Mostly small; edges of vectors and threads now and then."""
        kind = self.randrange(8)
        if kind < 3:
            return self.randint(1, min(6, most))
        if kind < 5:
            return min(most, self.choice((7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 129)))
        return self.randint(1, most)

    # ---- Values ----------------------------------------------------------------------------------

    def scores(self, n, *, invalid=12):
        """float32 [n], as importance scores are; one time in ``invalid`` some break the rules."""
        draw = self.numpy
        kind = self.randrange(10)
        if kind == 0:
            values = np.zeros(n)
        elif kind == 1:
            values = np.full(n, self.choice((DENORMAL, TINY, 1.0, 1e10, HUGE)))
        elif kind == 2:
            values = np.where(draw.random(n) < 0.8, 0.0, draw.random(n))
        elif kind == 3:
            values = 10.0 ** draw.uniform(-45, 38, n)
        elif kind == 4:
            values = np.full(n, self.choice((0.0, DENORMAL, 1e-9)))
            values[self.randrange(n)] = self.choice((1.0, HUGE))
        elif kind == 5:
            values = draw.integers(0, 4, n).astype(float)
        elif kind == 6:
            values = draw.integers(0, 50, n) * DENORMAL
        else:
            values = draw.exponential(size=n)
        if self.odds(invalid):
            for _ in range(self.randint(1, 3)):
                values[self.randrange(n)] = self.choice((np.nan, np.inf, -np.inf, -1.0, -DENORMAL))
        with np.errstate(all="ignore"):
            return values.astype(np.float32)

    def logits(self, shape):
        draw = self.numpy
        kind = self.randrange(8)
        if kind == 0:
            values = np.full(shape, self.choice((0.0, 1.0, -80.0, 1e30)))
        elif kind == 1:
            values = draw.normal(size=shape) * 10.0 ** self.randint(1, 30)
        elif kind == 2:
            values = draw.normal(size=shape) * 1e-30
        elif kind == 3:
            values = np.where(draw.random(shape) < 0.1, 80.0, 0.0)
        else:
            values = draw.normal(size=shape) * self.choice((0.1, 1.0, 5.0, 20.0))
        if values.size and self.odds(4):
            for _ in range(self.randint(1, 3)):
                place = tuple(self.randrange(side) for side in shape)
                values[place] = self.choice((np.nan, np.inf, -np.inf, -np.inf, -np.inf, -1e30))
        return values

    def share(self):
        return self.choice((0.0, 0.0, 1.0, 0.5, 0.1, 1e-9, 1 - 2**-53, self.random()))

    # ---- Tensors ---------------------------------------------------------------------------------

    def tensor(self, values, dtype, *, contiguous=False):
        """``values`` as a tensor of ``dtype`` in some memory layout, all of them legal."""
        with np.errstate(all="ignore"):
            whole = torch.from_numpy(np.array(values)).to(dtype)
        return self.inside(whole) if contiguous else self.laid(whole)

    def inside(self, tensor):
        """A contiguous copy with strange numbers before and behind it in memory."""
        before, behind = self.randint(0, 3), self.randint(0, 3)
        base = self._filler((before + tensor.numel() + behind,), tensor.dtype)
        view = base[before : before + tensor.numel()].view(tensor.shape)
        return view.copy_(tensor)

    def laid(self, tensor):
        """A copy in a layout by chance: contiguous, strided, permuted, or expanded where it can."""
        kind = self.randrange(5)
        if kind == 0 or tensor.dim() == 0:
            return self.inside(tensor)
        if kind == 1:
            steps = [self.randint(1, 3) for _ in tensor.shape]
            sides = [side * step for side, step in zip(tensor.shape, steps)]
            places = tuple(slice(None, None, step) for step in steps)
            return self._filler(sides, tensor.dtype)[places].copy_(tensor)
        if kind == 2:
            order = list(range(tensor.dim()))
            self.shuffle(order)
            back = [order.index(axis) for axis in range(tensor.dim())]
            return tensor.permute(order).contiguous().permute(back)
        axis = self.randrange(tensor.dim())
        side = tensor.shape[axis]
        first = tensor.narrow(axis, 0, min(1, side))
        if kind == 3 and side > 1 and same_bits(first.expand_as(tensor), tensor):
            return first.clone().expand_as(tensor)
        return tensor.clone()

    def _filler(self, shape, dtype):
        if dtype.is_floating_point:
            return torch.full(tuple(shape), self.choice((np.nan, -7.0, 1e4)), dtype=dtype)
        return torch.full(tuple(shape), self.choice((-(2**31), 2**31 - 1, -1)), dtype=dtype)


def same_bits(a, b):
    """Whether two tensors hold the same bits: NaN equals NaN, and 0.0 differs from -0.0."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return _bytes(a).equal(_bytes(b))


def _bytes(tensor):
    return tensor.clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8)
