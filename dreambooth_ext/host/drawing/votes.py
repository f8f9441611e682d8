"""Blind votes: which of two pictures of the same prompt and seed is better, without knowing whose they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from ...core.system import files

FILE = "votes.json"
MOST = 10_000  # votes of one comparison


def read(path: Path) -> list[dict[str, Any]]:
    """The votes of a file, oldest first: {"prompt", "seed", "models": [one, other], "better": one of them or None}."""
    try:
        found = files.read_json(path)
    except (OSError, ValueError):
        return []
    return [vote for vote in found if _is_vote(vote)] if isinstance(found, list) else []


def _is_vote(vote: Any) -> bool:
    if not isinstance(vote, dict) or not isinstance(vote.get("models"), list) or len(vote["models"]) != 2:
        return False
    return vote.get("better") is None or vote["better"] in vote["models"]


def add(path: Path, vote: Mapping[str, Any], pictures: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Keep one more vote; returns all. pictures: each with "model", "prompt" and "seed".

    Raises UserError unless there is a picture of that prompt and seed by each of the two models.
    """
    kept = {name: vote.get(name) for name in ("prompt", "seed", "models", "better")}
    drawn = {json.dumps([one["model"], one["prompt"], one["seed"]]) for one in pictures}
    models = kept["models"]
    pair = models if isinstance(models, list) and len(models) == 2 and models[0] != models[1] else []
    if not pair or any(json.dumps([model, kept["prompt"], kept["seed"]]) not in drawn for model in pair):
        raise UserError("drawing.no_such_pair", "models")
    if kept["better"] is not None and kept["better"] not in pair:
        raise UserError("drawing.no_such_pair", "better")
    known = [*read(path), kept][-MOST:]
    files.write_text(path, json.dumps(known, ensure_ascii=False) + "\n")
    return known


def counted(votes: Iterable[Mapping[str, Any]]) -> dict[Any, dict[str, int]]:
    """By model: in how many pairs it was `shown`, in how many of them it was `better`."""
    found: dict[Any, dict[str, int]] = {}
    for vote in votes:
        for model in vote["models"]:
            count = found.setdefault(model, {"shown": 0, "better": 0})
            count["shown"] += 1
            count["better"] += vote["better"] == model
    return found
