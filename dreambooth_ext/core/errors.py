"""What can be wrong in a user's input, in the words that reach the tab, the command line and the API alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

REPORT = "Please report this, with what this prints: python -m dreambooth_ext runs report"  # of what is our own fault


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: which setting or file, what about it, and what to do."""

    field: str
    message: str
    remedy: str = ""
    is_grave: bool = False  # of a warning: forbids nothing, but is shown as errors are

    def __str__(self) -> str:
        text = f"{self.field}: {self.message}" if self.field else self.message
        return f"{text} {self.remedy}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """{"field", "message", "remedy"}, and "is_grave" where it is."""
        return {name: value for name, value in asdict(self).items() if name != "is_grave" or value}


class UserError(Exception):
    """Raised where the user's input or machine is at fault; programming errors stay ordinary exceptions."""

    def __init__(self, field: str, message: str, remedy: str = ""):
        self.problem = Problem(field, message, remedy)
        super().__init__(str(self.problem))
