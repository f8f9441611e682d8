"""A refused request, with its HTTP status; otherwise a `UserError` like any other."""

from __future__ import annotations

from typing import Any

from ..core.errors import Problem, UserError


class Refusal(UserError):
    """`status`: 401, 403, 404, 405, 409, 413, 415, 503, 507; a plain UserError is a 422."""

    def __init__(self, status: int, code: str, field: str = "", /, **values: Any):
        super().__init__(code, field, **values)
        self.status = status
        self.headers: dict[str, str] = {}  # of the answer

    @classmethod
    def of(cls, status: int, problem: Problem, field: str = "") -> Refusal:
        """A problem that is known already, as an answer with this status."""
        return cls(status, problem.code, field or problem.field, **problem.values)


class Problems(UserError):
    """Everything that is wrong with a config."""

    def __init__(self, problems: list[Problem]):
        first = problems[0]
        super().__init__(first.code, first.field, **first.values)
        self.problems = problems
