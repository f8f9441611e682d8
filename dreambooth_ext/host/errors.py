"""An answer that is no, with the HTTP status that says so; everything else is a `UserError` like any other."""

from __future__ import annotations

from ..core.errors import Problem, UserError


class Refusal(UserError):
    """`status`: 401, 403, 404, 405, 409, 413, 415, 503, 507; a plain UserError is a 422."""

    def __init__(self, status: int, message: str, remedy: str = "", field: str = ""):
        super().__init__(field, message, remedy)
        self.status = status
        self.headers: dict[str, str] = {}  # of the answer


class Problems(UserError):
    """Everything that is wrong with a config."""

    def __init__(self, problems: list[Problem]):
        first = problems[0]
        super().__init__(first.field, first.message, first.remedy)
        self.problems = problems
