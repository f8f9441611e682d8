"""Limits for a stranger's model configuration: sizes that no model has would take forever, or all memory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ...core.config.parsing import shown
from ...core.messages.message import Message
from ...core.system.files import read_json

LARGEST = 2**20  # bytes of a config.json; usual are 2 KB
MOST = 10**7  # of any number; vocabularies have 50 000
LONGEST = 1000  # of a list: levels of a UNet, a schedule's betas
LIMITS = {
    "layers_per_block": 32,
    "transformer_layers_per_block": 64,
    "num_hidden_layers": 128,
    "num_train_timesteps": 10_000,
    "sample_size": 4096,
}


def read_config(path: Path) -> Any:
    """A JSON file's content. Raises OSError, and ValueError also for what no model has."""
    content = read_json(path, LARGEST)
    require_usual(content)
    return content


def require_usual(content: Any, name: str = "it") -> None:
    """Raise ValueError, naming the place, for a number that is not finite or far beyond all models. Of a tree."""
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
    """A whole number above 0; strings times numbers would fill the memory."""
    if type(value) is not int or not 0 < value <= MOST:
        raise ValueError(Message("base.number_missing"))
    return value


def between(value: Any, low: float, high: float, name: str) -> float:
    """A number within limits, that may be written as text. Raises ValueError."""
    number = float(value)
    if not low <= number <= high:  # not a number, too
        raise ValueError(Message("base.number_out_of_range", name=name, number=number, low=low, high=high))
    return number
