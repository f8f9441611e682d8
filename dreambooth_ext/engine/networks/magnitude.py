"""DoRA's norms: of the columns or rows of W + s B A, which is as large as W, without writing it out.

|W + D|^2 = |W|^2 + 2 <W, D> + |D|^2, and with D = s B A both latter terms come from products with B or A alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

OUTPUTS, INPUTS = 0, 1  # axes of a weight


def axis_of(shape: Sequence[int], dimensions: int) -> int | None:
    """Return which channels have a magnitude each, by its shape, for a weight of so many dimensions: OUTPUTS, INPUTS,
    or None if neither."""
    shape = (*shape, *[1] * (dimensions - len(shape)))
    wide = [axis for axis, size in enumerate(shape) if size > 1]
    return wide[0] if wide in ([OUTPUTS], [INPUTS]) else None


@torch.no_grad()
def changed_norms(weight: Tensor, up: Tensor, down: Tensor, scale: float, axis: int) -> Tensor:
    """Return the norm of each channel along `axis` of W + scale B A, in float32. Where B A is 0, it is W's to the bit.

    weight: (out, in) or (out, in, h, w); up: B (out, rank); down: A (rank, in * h * w).
    """
    w_oik = weight.float().reshape(*weight.shape[:2], -1)
    a_rik = down.reshape(len(down), *w_oik.shape[1:])
    w, a = w_oik.flatten(1), a_rik.flatten(1)
    if axis == INPUTS:
        with_w, with_own = up.T @ w, (up.T @ up) @ a
        added = (a * (2 * with_w + scale * with_own)).reshape_as(a_rik).sum((0, 2))
    else:
        with_w, with_own = w @ a.T, up @ (a @ a.T)
        added = (up * (2 * with_w + scale * with_own)).sum(1)
    before = torch.linalg.vector_norm(w_oik, dim=(0, 2) if axis == INPUTS else (1, 2))
    return torch.where(added == 0, before, (before.square() + scale * added).clamp_min(0).sqrt())
