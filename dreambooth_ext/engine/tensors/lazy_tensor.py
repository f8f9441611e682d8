"""Tensors that are known by shape and read when they are wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LazyTensor:
    shape: tuple[int, ...]
    dtype: torch.dtype
    load: Callable[[], Tensor]

    def to(self, dtype: torch.dtype) -> LazyTensor:
        """The same in another precision; whole numbers stay as they are."""
        if dtype == self.dtype or not self.dtype.is_floating_point:
            return self
        return LazyTensor(self.shape, dtype, lambda: self.load().to(dtype))


def raw_bytes(tensor: Tensor | LazyTensor) -> Any:
    """The numbers in row-major order, as a flat array of bytes (little-endian machines only, which all are)."""
    if isinstance(tensor, LazyTensor):
        tensor = tensor.load()
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def is_finite(tensor: Tensor) -> bool:
    """Whether no number is NaN or infinite, also in fp8, of which PyTorch does not tell. Passes over them once."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    exact = tensor.detach().float() if tensor.dtype.itemsize == 1 else tensor.detach()
    try:
        extremes = exact.aminmax()
    except RuntimeError:  # old versions of PyTorch cannot say it of 16 bits on a CPU
        extremes = exact.float().aminmax()
    return all(bool(extreme.isfinite()) for extreme in extremes)
