"""Limits for untrusted model configurations: absurd sizes would take forever or exhaust the memory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ...core.config.parsing import shown
from ...core.messages.message import Message
from ...core.system.files import read_json

LARGEST = 2**20  # bytes of a config.json; usually 2 KB
MOST = 10**7  # largest number; vocabularies have 50 000 entries
LONGEST = 1000  # longest list: levels of a UNet, betas of a schedule
LIMITS = {
    "layers_per_block": 32,
    "transformer_layers_per_block": 64,
    "num_hidden_layers": 128,
    "num_train_timesteps": 10_000,
    "sample_size": 4096,
}


def read_config(path: Path) -> Any:
    """Read a JSON file. Raises OSError, and ValueError also for values that no model has."""
    content = read_json(path, LARGEST)
    require_usual(content)
    return content


def require_usual(content: Any, name: str = "it") -> None:
    """Raise ValueError, naming the place, if a number in the tree is not finite or far larger than in any model."""
    if isinstance(content, dict):
        for key, value in content.items():
            require_usual(value, str(key)[:80])
    elif isinstance(content, list):
        if len(content) > LONGEST:
            raise ValueError(Message("base.list_too_long", name=name, count=len(content)))
        for value in content:
            require_usual(value, name)
    elif isinstance(content, int | float) and not (math.isfinite(content) and abs(content) <= LIMITS.get(name, MOST)):
        raise ValueError(Message("base.number_unusual", name=name, number=shown(content)))


def whole(value: Any) -> int:
    """Return a positive integer. Raises ValueError otherwise; a string times a number would fill the memory."""
    if type(value) is not int or not 0 < value <= MOST:
        raise ValueError(Message("base.number_missing"))
    return value


def between(value: Any, low: float, high: float, name: str) -> float:
    """Return a number within limits, which may be given as text. Raises ValueError otherwise."""
    number = float(value)
    if not low <= number <= high:  # also true for NaN
        raise ValueError(Message("base.number_out_of_range", name=name, number=number, low=low, high=high))
    return number
