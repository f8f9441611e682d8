"""The device that trains and draws."""

from __future__ import annotations

import os
import sys
import warnings

import torch

from ...core.errors import UserError

ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")  # variables in which users say it themselves


def choose_device(wanted: str) -> torch.device:
    """The device by its name; "auto" is the best there is. Raises UserError for one that is not there."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise UserError("device.unknown", "device", device=wanted) from None
    there = {
        "cpu": lambda: True,
        "cuda": lambda: torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available,
    }
    if device.type not in there or not there[device.type]():
        raise UserError("device.missing", "device", device=wanted)
    return device


def take_device(name: str) -> None:
    """Make it the current one, before anything computes: libraries that ask for "cuda" shall not take the first card,
    nor some hundred megabytes of it."""
    device = torch.device(name)
    if device.type != "cuda":
        return
    if device.index is not None:
        torch.cuda.set_device(device)
    if sys.platform == "linux" and torch.version.cuda and not any(map(os.environ.get, ALLOCATOR)):
        _let_segments_grow(device)


def _let_segments_grow(device: torch.device) -> None:
    """Pictures of many sizes leave PyTorch's memory in pieces that fit nothing, unless its segments can grow.

    Not every card and driver can do that (virtual ones often cannot), which shows with the first tensor.
    """
    set_allocator = getattr(torch.cuda.memory, "_set_allocator_settings", None)
    if set_allocator is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it has a new name, which older versions do not know
        set_allocator("expandable_segments:True")
        try:
            torch.empty(1, device=device)
        except RuntimeError:
            set_allocator("expandable_segments:False")
