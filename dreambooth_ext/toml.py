"""TOML, which Python reads itself from 3.11 on."""

from __future__ import annotations

from importlib import import_module
from typing import Any

READERS = ("tomllib", "tomli", "pip._vendor.tomli")  # the last two are the first one's origin, for Python 3.10


def loads(text: str) -> dict[str, Any]:
    """The document's values. Raises ValueError, which says what is wrong in which line."""
    for name in READERS:
        try:
            reader = import_module(name)
        except ImportError:
            continue
        return reader.loads(text)
    raise ValueError("this Python cannot read TOML: save it as JSON, or use Python 3.11 or newer")
