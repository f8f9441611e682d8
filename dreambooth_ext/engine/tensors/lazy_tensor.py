"""Lazy tensors: shape and dtype are known, the values are read when needed."""

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
        """Return the tensor in another dtype; integers are left unchanged."""
        if dtype == self.dtype or not self.dtype.is_floating_point:
            return self
        return LazyTensor(self.shape, dtype, lambda: self.load().to(dtype))


def raw_bytes(tensor: Tensor | LazyTensor) -> Any:
    """Return the values in row-major order as a flat byte array (for little-endian machines, which all are)."""
    if isinstance(tensor, LazyTensor):
        tensor = tensor.load()
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite, also for fp8, for which PyTorch has no such check. Reads the values once."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    exact = tensor.detach().float() if tensor.dtype.itemsize == 1 else tensor.detach()
    try:
        extremes = exact.aminmax()
    except RuntimeError:  # not implemented for 16 bits on a CPU in old versions of PyTorch
        extremes = exact.float().aminmax()
    return all(bool(extreme.isfinite()) for extreme in extremes)
