"""A value that is not of its setting's kind, as code and values: what to give instead, its setting knows."""

from __future__ import annotations

from typing import Any

from ..errors import Problem
from ..messages.message import Message


class Unfit(ValueError):
    """Raised with a code whose remedy is {advice}."""

    def __init__(self, code: str, **values: Any):
        self.message = Message(code, **values)
        super().__init__(self.message)

    def problem(self, field: str, advice: Message) -> Problem:
        return Problem(self.message.code, field, **self.message.values, advice=advice)
