"""Tests of one thing with many parameters, of which a few are quick enough for each run of all tests."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def seldom(values: Iterable[Any], but: Collection[Any] = ()) -> list[Any]:
    """Return parameters, or tuples of them, that are marked slow, except for those in `but`."""
    return [value if value in but else _slow(value) for value in values]


def _slow(value: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
