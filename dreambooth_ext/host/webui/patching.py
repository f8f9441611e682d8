"""Temporarily replaces functions of another program."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Place = tuple[Any, str, Callable[[Callable], Callable]]


@contextlib.contextmanager
def replaced(places: Iterable[Place]) -> Iterator[None]:
    """Replace functions inside the block. Each place is (owner, name, around): `around(function)` replaces the
    function.

    Owners that are None, and names that an owner lacks, are skipped. A replacement that others put over ours meanwhile
    stays, and still calls the original through ours.
    """
    with contextlib.ExitStack() as stack:
        for owner, name, around in places:
            original = getattr(owner, name, None)
            if callable(original):
                stack.enter_context(_replaced(owner, name, functools.wraps(original)(around(original))))
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, replacement: Callable) -> Iterator[None]:
    missing = object()
    before = vars(owner).get(name, missing)  # an object's method is its class's
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        if vars(owner).get(name) is replacement:
            if before is missing:
                delattr(owner, name)
            else:
                setattr(owner, name, before)


def after(gate: Callable[[], None]) -> Callable[[Callable], Callable]:
    """A wrapper for `replaced`: calls `gate`, which may wait or raise, before the function."""

    def around(original: Callable) -> Callable:
        def guarded(*arguments: Any, **named: Any) -> Any:
            gate()
            return original(*arguments, **named)

        return guarded

    return around
