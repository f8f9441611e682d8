"""A process that dies at its k-th file operation, simulated: that one and all that follow do not happen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Dead(BaseException):
    """What the rest of a killed process sees: nothing that it does reaches the disk any more."""


OPERATIONS = ("replace", "fsync", "unlink", "rmdir", "mkdir", "open", "link")


def dying(monkeypatch: pytest.MonkeyPatch, *others: tuple[Any, str]) -> Callable[..., bool]:
    """`ends(k, work, ...)`: whether `work(...)` comes to its end, or dies: none of its file operations from the k-th on
    happens.

    others: (module, name) of further functions that count as file operations.
    """
    left = [float("inf")]

    def guard(original):
        def operation(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise Dead
            return original(*arguments, **options)

        return operation

    places = [*((os, name) for name in OPERATIONS), (Path, "open"), (shutil, "copyfile"), *others]
    for place, name in places:
        monkeypatch.setattr(place, name, guard(getattr(place, name)))

    def ends(k: int, work: Callable[..., Any], *arguments: Any, **options: Any) -> bool:
        left[0] = k
        try:
            work(*arguments, **options)
        except Dead:
            return False
        finally:
            left[0] = float("inf")
        return True

    return ends
