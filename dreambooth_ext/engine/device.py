"""The device that trains and draws."""

from __future__ import annotations

import torch

from ..errors import UserError


def choose_device(wanted: str) -> torch.device:
    """The device by its name; "auto" is the best there is. Raises UserError for one that is not there."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise UserError("device", f"'{wanted}' is no device.", "Use auto, cuda, cuda:1, mps or cpu.") from None
    there = {
        "cpu": lambda: True,
        "cuda": lambda: torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available,
    }
    if device.type not in there or not there[device.type]():
        raise UserError("device", f"'{wanted}' is not on this machine.", "Use auto or cpu, or check the card's driver.")
    return device
