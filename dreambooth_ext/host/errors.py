"""Errors of requests: a `UserError` with an HTTP status, and one with several problems."""

from __future__ import annotations

from typing import Any

from ..core.errors import Problem, UserError


class Refusal(UserError):
    """A refused request. `status`: 401, 403, 404, 405, 409, 413, 415, 503, 507; a plain UserError is a 422."""

    def __init__(self, status: int, code: str, field: str = "", /, **values: Any):
        super().__init__(code, field, **values)
        self.status = status
        self.headers: dict[str, str] = {}  # of the answer

    @classmethod
    def of(cls, status: int, problem: Problem, field: str = "") -> Refusal:
        """A refusal with this status for a given problem."""
        return cls(status, problem.code, field or problem.field, **problem.values)


class Problems(UserError):
    """All problems with a config, as one error."""

    def __init__(self, problems: list[Problem]):
        first = problems[0]
        super().__init__(first.code, first.field, **first.values)
        self.problems = problems


def told(problem: Problem) -> dict[str, Any]:
    """{"error", "remedy", "code", "values"}, and "field" where there is one."""
    known = problem.as_dict()
    field = {"field": problem.field} if problem.field else {}
    return {"error": sentence(problem), **field, **{name: known[name] for name in ("remedy", "code", "values")}}


def sentence(problem: Problem) -> str:
    """The message as a sentence by itself: some go on from the field's name."""
    message = problem.message
    if not message[:1].islower():
        return message
    return f"{problem.field}: {message}" if problem.field else message[0].upper() + message[1:]
