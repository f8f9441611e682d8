"""Problems and errors in a user's input, with the same words in the tab, the command line and the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .messages.message import REMEDY, Message, catalogue, from_json, values_for_json

REPORT = "Please report this, with what this prints: python -m dreambooth_ext runs report"  # of what is our own fault
AS_SAID = "other.as_said"  # in words that are not the catalogue's: of a library, or of another version


class Problem:
    """One fault: which setting or file, what is wrong, and what to do.

    code: from the catalogue (`core/messages/english/`), with the values that its sentences use. is_grave: a warning
    that forbids nothing, but is shown like an error.
    """

    def __init__(self, code: str, field: str = "", /, *, is_grave: bool = False, **values: Any):
        self.code = code
        self.field = field
        self.values = values
        self.is_grave = is_grave

    @property
    def message(self) -> str:
        return self.values["message"] if self.code == AS_SAID else Message(self.code, **self.values)

    @property
    def remedy(self) -> str:
        if self.code == AS_SAID:
            return self.values.get("remedy", "")
        return Message(self.code + REMEDY, **self.values) if self.code + REMEDY in catalogue() else ""

    def __str__(self) -> str:
        text = f"{self.field}: {self.message}" if self.field else self.message
        return f"{text} {self.remedy}".rstrip()

    def __repr__(self) -> str:
        return f"Problem({self.code!r}, {self.field!r}, {str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problem) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash((self.code, self.field, str(self)))

    def as_dict(self) -> dict[str, Any]:
        """{"code", "values", "field", "message", "remedy"}, and "is_grave" if true."""
        texts = {"field": self.field, "message": str(self.message), "remedy": str(self.remedy)}
        grave = {"is_grave": True} if self.is_grave else {}
        return {"code": self.code, "values": values_for_json(self.values), **texts, **grave}

    def as_error(self) -> UserError:
        """The UserError to raise for this problem."""
        return UserError(self.code, self.field, **self.values)

    def as_event(self) -> dict[str, Any]:
        """{"code", "values", "field", "what", "remedy"}, as in a run's events."""
        known = self.as_dict()
        return {"what": known.pop("message"), **known}

    @classmethod
    def from_dict(cls, known: Mapping[str, Any]) -> Problem:
        """The inverse of `as_dict`, also for one from another version with other codes."""
        grave = bool(known.get("is_grave"))
        if known.get("code", AS_SAID) == AS_SAID or known["code"] not in catalogue():
            said = {"message": known["message"], "remedy": known.get("remedy", "")}
            return cls(AS_SAID, known["field"], is_grave=grave, **said)
        values = {name: from_json(value) for name, value in known.get("values", {}).items()}
        return cls(known["code"], known["field"], is_grave=grave, **values)


class UserError(Exception):
    """Raised when the user's input or machine is at fault; programming errors stay ordinary exceptions."""

    def __init__(self, code: str, field: str = "", /, **values: Any):
        self.problem = Problem(code, field, **values)
        super().__init__(str(self.problem))
