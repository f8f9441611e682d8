"""Which setting two machines have otherwise, as their users know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...core.config.run_config import SETTINGS
from ...core.messages.message import written

NUMBERS = ("int", "float", "bool", "rate", "numbers")  # kinds that hold no path, link or text of a user's own


def first_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any], filled: Sequence[str] = ()) -> str:
    """The first setting whose values differ, in the order of the form; "" for none. filled: those that the guide has
    filled in, in its order: they come last, since they may only follow from another one that differs."""
    given = [name for name in SETTINGS if name not in filled]
    rest = sorted({*ours, *theirs} - SETTINGS.keys())
    return next((name for name in (*given, *filled, *rest) if ours.get(name) != theirs.get(name)), "")


def two_values(setting: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """{"ours", "theirs"}: the values as text; {} for what may hold a path, a link or a user's own words, and where one
    was left out."""
    known, values = SETTINGS.get(setting), (ours.get(setting), theirs.get(setting))
    if known is None or None in values or not (known.kind in NUMBERS or known.choices):
        return {}
    return dict(zip(("ours", "theirs"), map(_written, values), strict=True))


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else written(value)
