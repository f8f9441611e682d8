"""Copy numbers to the device that trains without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device | str | None, dtype: torch.dtype | None = None) -> Tensor:
    """Return the tensor on `device`, as `Tensor.to` does.

    That waits until a card has done all that it was given, unless it copies from pinned memory.
    """
    target = None if device is None else torch.device(device)
    if target is None or target.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(target, dtype)
    return tensor.pin_memory().to(target, non_blocking=True).to(dtype or tensor.dtype)
