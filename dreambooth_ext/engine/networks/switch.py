"""Turns what is attached to a model off for a while: until then the model is its base again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class Switch:
    """Asked by each attached part whenever its layer runs."""

    def __init__(self) -> None:
        self.is_off = False

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        self.is_off = True
        try:
            yield
        finally:
            self.is_off = False
