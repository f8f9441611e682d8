"""Reads TOML, also on Python 3.10, which has no reader of its own."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from ..messages.message import Message
from .files import MOST_DIGITS

MOST_PARTS = 16  # of a key "a.b.c": readers take time by the square of them
# Texts and comments. Each pattern matches wherever it begins, also without its end: else a search would begin anew.
_TEXTS = re.compile(
    r""""{3}(?:\\(?:.|\Z)|[^\\])*?(?:"{3}|\Z)|'{3}.*?(?:'{3}|\Z)"""
    r"""|"(?:\\(?:.|\Z)|[^"\\\n])*(?:"|$)|'[^'\n]*(?:'|$)|#[^\n]*""",
    re.S | re.M,
)
_KEY = re.compile(r"[\w\-. \t]+")
_DIGITS = re.compile(r"[0-9_]+")
READERS = ("tomllib", "tomli", "pip._vendor.tomli")  # the last two are the first one's origin, for Python 3.10


def loads(text: str) -> dict[str, Any]:
    """The document's values. Raises ValueError with the fault and its line."""
    _require_short_keys(text)
    for name in READERS:
        try:
            reader = import_module(name)
        except ImportError:
            continue
        return reader.loads(text)
    raise ValueError(Message("files.no_toml_reader"))


def _require_short_keys(text: str) -> None:
    bare = _TEXTS.sub("x", text)
    if any(key.count(".") >= MOST_PARTS for key in _KEY.findall(bare)):
        raise ValueError(Message("files.toml_long_key", most=MOST_PARTS))
    if any(len(digits) > MOST_DIGITS for digits in _DIGITS.findall(bare)):
        raise ValueError(Message("files.toml_long_number", most=MOST_DIGITS))
