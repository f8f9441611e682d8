"""Choose and set up the device for training and drawing."""

from __future__ import annotations

import os
import sys
import warnings

import torch

from ...core.config import devices
from ...core.errors import UserError

ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")  # set by users who configure the allocator themselves


def choose_device(wanted: str) -> torch.device:
    """Return the device of this name; "auto" selects the best available. Of several cards all are looked for, and the
    first is returned. Raises UserError if one does not exist."""
    found = [_find(name) for name in (devices.listed(wanted) if "," in wanted else [wanted])]
    return found[0]


def _find(wanted: str) -> torch.device:
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
    """Make this the current device before anything computes. Otherwise libraries that ask for "cuda" use the first
    card, and some hundred megabytes of it."""
    device = torch.device(name)
    if device.type != "cuda":
        return
    if device.index is not None:
        torch.cuda.set_device(device)
    if sys.platform == "linux" and torch.version.cuda and not any(map(os.environ.get, ALLOCATOR)):
        _let_segments_grow(device)


def _let_segments_grow(device: torch.device) -> None:
    """Enable PyTorch's expandable segments: otherwise pictures of many sizes fragment its memory.

    Not every card and driver supports this (virtual ones often do not), which only shows at the first tensor.
    """
    set_allocator = getattr(torch.cuda.memory, "_set_allocator_settings", None)
    if set_allocator is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # renamed in newer versions
        set_allocator("expandable_segments:True")
        try:
            torch.empty(1, device=device)
        except RuntimeError:
            set_allocator("expandable_segments:False")
