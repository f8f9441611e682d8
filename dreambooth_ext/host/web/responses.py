"""HTTP responses: JSON, refusals with their codes, pictures for the browser's cache. None can be run or shown as a
page."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.responses import Response

from ...core.errors import Problem, UserError
from ...core.system import disk
from ...core.system.terminal import say_traceback
from ..errors import Problems, told

HEADERS = {  # of every answer
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def to_json(values: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    try:
        text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:  # numbers that JSON has no words for
        text = json.dumps(finite(values), ensure_ascii=False, separators=(",", ":"))
    data = text.encode("utf-8", "replace")  # names of files may hold bytes that are no text
    return Response(data, status, dict(headers or {}), media_type="application/json")


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


def refused(error: Exception) -> Response:
    """The response for an error: {"error", "field"?, "remedy", "code", "values", "problems"?}."""
    if isinstance(error, Problems):  # the first of them, and all
        problems = [problem.as_dict() for problem in error.problems]
        return to_json({**told(error.problem), "problems": problems}, 422)
    if isinstance(error, UserError):
        problem = error.problem
        return to_json(told(problem), getattr(error, "status", 422), getattr(error, "headers", None))
    if isinstance(error, OSError):
        why = error.strerror or type(error).__name__
        return to_json(told(disk.problem_of(error) or Problem("web.unusable_file", error=why)), 500)
    say_traceback(error)
    return to_json(told(Problem("web.unexpected", error=type(error).__name__)), 500)


def picture(
    headers: Mapping[str, str], path: Path, kind: str, draw: Callable[[], bytes], size: int | None = None
) -> Response:
    """A picture that the browser may cache as long as its file does not change."""
    about = path.stat()
    return tagged(headers, f"{about.st_mtime_ns:x}-{about.st_size:x}-{size}", draw, kind)


def tagged(headers: Mapping[str, str], tag: str, content: Callable[[], bytes], kind: str) -> Response:
    """A response with an ETag: "not modified" if the browser already has it."""
    about = {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}
    if f'"{tag}"' in headers.get("if-none-match", ""):
        return Response(status_code=304, headers=about)
    return Response(content(), headers=about, media_type=kind)
