"""The exception for a value of the wrong type, as code and values; the setting supplies the advice."""

from __future__ import annotations

from typing import Any

from ..errors import Problem
from ..messages.message import Message


class Unfit(ValueError):
    """A value that cannot be parsed; the remedy of its code is {advice}."""

    def __init__(self, code: str, **values: Any):
        self.message = Message(code, **values)
        super().__init__(self.message)

    def problem(self, field: str, advice: Message) -> Problem:
        return Problem(self.message.code, field, **self.message.values, advice=advice)
