"""Tests of one thing with many parameters, of which a few are quick enough for each run of all tests."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def seldom(values: Iterable[Any], but: Collection[Any]) -> list[Any]:
    """Return parameters that are marked slow, but for these."""
    return [value if value in but else slow(value) for value in values]


def slow(value: Any) -> Any:
    """Return a parameter, or a tuple of them, that is marked slow."""
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
