"""The rows of a gradient, seen and weighed where they pass."""

from __future__ import annotations

import torch
from torch import Tensor

from isample.ops.fakes import register_fake


def rows(
    z: Tensor, factors: Tensor | None = None, squares: Tensor | None = None, *, scale: float = 1.0
) -> Tensor:
    """The identity on ``z``, whose backward pass sees each row of the gradient dL/dz.

    Row i is ``dL/dz[i]``, flattened. The backward pass adds the squared norm of ``scale`` times
    row i to ``squares[i]``. It multiplies row i by ``factors[i]`` on its way back. ``factors`` is
    read in the backward pass. The squares are those of the rows before they are multiplied.

    Args:
        z: [B, ...], float32, bfloat16, float16 or float64.
        factors: float32 [B], or None for 1.
        squares: float32 [B], which several calls may share, or None.
        scale: finite, in float32 too.

    Returns:
        an alias of ``z``, no copy. ``z`` itself where it does not require grad, or where neither
        ``factors`` nor ``squares`` is given.

    Raises:
        ValueError: wrong shape or device; a ``scale`` that is not finite.
        TypeError: wrong dtype.
    """
    return torch.ops.isample.rows.default(z, factors, squares, scale)


@register_fake("isample::_add_row_squares")
def _fake_add_row_squares(squares, gradient, scale):
    return None


@register_fake("isample::_scale_rows")
def _fake_scale_rows(gradient, factors, squares, scale):
    channels_last = any(
        gradient.is_contiguous(memory_format=each)
        for each in (torch.channels_last, torch.channels_last_3d)
    )
    return torch.empty_like(
        gradient,
        memory_format=torch.preserve_format if channels_last else torch.contiguous_format,
    )
