"""Rows: requests that no page sends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dreambooth_ext.core.errors import Problem
from tests.bad_input import sound
from tests.bad_input.case import Case, Verb
from tests.bad_input.verbs import answered
from tests.host.asking import Asked

JSON = "application/json"
Made = tuple[str, str, bytes, int]  # of a request: where, kind, body, and the status that is due


def _posted(given: Made, folder: Path) -> list[Problem]:
    where, kind, body, status = given
    asked = Asked(folder)
    answer = asked.ask("POST", where, headers={"content-type": kind}, body=body)
    assert answer.status == status, answer.body[:500]
    assert asked.get("runs").json()["runs"] == []
    problems = answer.json().get("problems")
    return [Problem.from_dict(problem) for problem in problems] if problems else [answered(answer)]


POST = (Verb("POST", _posted),)
CONFIG = b'{"config": {}}'
DIGITS = b'{"config": ' + b"9" * 5000 + b"}"
# what it is -> kind, body, status, field and words of the answer
BODIES: dict[str, tuple[str, Callable[[], bytes], int, str, str]] = {
    "plain text": ("text/plain", lambda: CONFIG, 415, "Content-Type", "application/json"),
    "a form": ("application/x-www-form-urlencoded", lambda: CONFIG, 415, "Content-Type", "application/json"),
    "a form of files": ("multipart/form-data", lambda: CONFIG, 415, "Content-Type", "application/json"),
    "no kind": ("", lambda: CONFIG, 415, "Content-Type", "application/json"),
    "a list": (JSON, lambda: b"[]", 400, "", ""),
    "a text": (JSON, lambda: b'"x"', 400, "", ""),
    "cut short": (JSON, lambda: b"{", 400, "", ""),
    "in no encoding": (JSON, lambda: b"\xff{}", 400, "", ""),
    "no number": (JSON, lambda: b'{"config": NaN}', 400, "", ""),
    "deep lists": (JSON, lambda: b"[" * 200_000, 400, "", ""),
    "deep objects": (JSON, lambda: b'{"a":' * 100_000, 400, "", ""),
    "a number of 5000 digits": (JSON, lambda: DIGITS, 400, "", ""),
    "a megabyte": (JSON, lambda: b'{"config": "' + b"x" * 2**20 + b'"}', 413, "", ""),
    "20 megabytes": (JSON, lambda: b"x" * (20 * 2**20), 413, "", ""),
    "no config": (JSON, lambda: b"{}", 422, "config", "is missing"),
    "nothing": (JSON, lambda: b"", 422, "config", "is missing"),
    "a config that is a list": (JSON, lambda: b'{"config": []}', 422, "config", "must be an object"),
    "a config that is a text": (JSON, lambda: b'{"config": "x"}', 422, "config", "must be an object"),
    "a depth that is a number": (JSON, lambda: b'{"config": {}, "deep": 1}', 422, "deep", "must be true or false"),
}
# the name of a wish, and a value that it cannot have
WISHES: list[tuple[str, Any]] = [
    ("publish", "yes"),
    ("publish", 1),
    ("select", "all"),
    ("select", []),
    ("while_training", 5),
]


def body(kind: str, content: Callable[[], bytes], status: int) -> Callable[[Path], Made]:
    return lambda folder: ("check", kind, content(), status)


def with_values(changes: dict[str, Any], beside: dict[str, Any] | None = None) -> Callable[[Path], Made]:
    """A run with the good settings but for these, and with more in the body beside them."""

    def make(folder: Path) -> Made:
        values = {**sound.settings(folder), **changes}
        return "runs", JSON, json.dumps({"config": values, **(beside or {})}).encode(), 422

    return make


def concept(value: Any) -> dict[str, Any]:
    return {"instance_data_dir": "", "instance_prompt": None, "concepts": [{"instance_data_dir": value}]}


CASES = [
    Case(f"body: {name}", body(kind, content, status), POST, field, words)
    for name, (kind, content, status, field, words) in BODIES.items()
]
for name, value in WISHES:
    CASES.append(Case(f"wish: {name} {value!r}", with_values({}, {name: value}), POST, name, ""))
CASES += [
    Case("type: a method in a list", with_values({"method": ["lora"]}), POST, "method", "is not a text"),
    Case("type: a method that is an object", with_values({"method": {"a": 1}}), POST, "method", "is not a text"),
    Case(
        "type: a folder that is an object",
        with_values(concept({"a": 1})),
        POST,
        "concepts[0].instance_data_dir",
        "is not text",
    ),
]
