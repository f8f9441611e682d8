"""What can be wrong in a user's input, in the words that reach the tab, the command line and the API alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: which setting or file, what about it, and what to do."""

    field: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.field}: {self.message}" if self.field else self.message
        return f"{text} {self.remedy}".rstrip()

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class UserError(Exception):
    """Raised where the user's input or machine is at fault; programming errors stay ordinary exceptions."""

    def __init__(self, field: str, message: str, remedy: str = ""):
        self.problem = Problem(field, message, remedy)
        super().__init__(str(self.problem))
