"""What a run's page shows of its verdict: sentences, states, scores and what the models drew; no training picture."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ...core.config.run_config import SETTINGS
from ...core.data import picture_list
from ...core.messages.message import written
from ...core.runs.run_folder import Run
from ...core.verdict import verdict_file
from ...core.verdict.decision import STATES
from ...core.verdict.scores import LABELS
from ..service.redaction import HIDDEN, Redaction
from .data_uri import data_uri

SIZE = 512  # pixels of a proof picture
MOST = 6  # of these
MOST_NAMES = 10_000  # of training pictures that are looked for


@dataclass(frozen=True)
class Judged:
    """A verdict, redacted. models: (step or "base", state, a score or None for each of LABELS)."""

    sentence: str
    models: list[tuple[str, str, list[float | None]]]
    proof: list[tuple[str, str]]  # (caption, data URI)
    notes: list[tuple[str, str]]  # (label, text)


def judged(run: Run, redaction: Redaction) -> Judged | None:
    """The run's verdict; None without one, or where it cannot be read."""
    verdict = verdict_file.read(run)
    if verdict is None or not isinstance(verdict.get("sentence"), str):
        return None
    hidden = _Hidden(run, redaction)
    checkpoints = [one for one in _list(verdict, "checkpoints") if isinstance(one.get("step"), int)]
    models = [(f"step {one['step']}", STATES.get(str(one.get("state")), ""), _scores(one)) for one in checkpoints]
    base = verdict.get("base")
    if isinstance(base, dict) and any(score is not None for score in _scores(base)):
        models.append(("base", "", _scores(base)))
    notes = [(label, hidden.text(text)) for label, text in _notes(verdict) if text]
    return Judged(hidden.text(verdict["sentence"]), models, list(_proof(run, verdict, hidden)), notes)


class _Hidden:
    """Redacts also the names of training pictures, which a verdict has no need to tell."""

    def __init__(self, run: Run, redaction: Redaction):
        self.redaction = redaction
        self.names = {path.name for path in picture_list.first(run.path, MOST_NAMES)[0]}

    def text(self, text: str) -> str:
        for name in self.names:
            text = text.replace(name, HIDDEN)
        return self.redaction.text(text)


def _list(verdict: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = verdict.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _scores(one: Mapping[str, Any]) -> list[float | None]:
    values = [one.get(name) for name in LABELS]
    return [float(value) if isinstance(value, int | float) and math.isfinite(value) else None for value in values]


def _notes(verdict: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    trust, judge = verdict.get("trust"), verdict.get("judge")
    yield "How far to trust it", _sentence(trust)
    yield "Judged by", _sentence(judge)
    next_run = verdict.get("next_run")
    if isinstance(next_run, dict):
        changes = [f"{_label(name)}: {_value(value)}" for name, value in next_run.items()]
        yield "Next run", " ".join([str(verdict.get("next_run_sentence") or ""), "; ".join(changes)]).strip()


def _sentence(one: Any) -> str:
    return str(one.get("sentence") or "") if isinstance(one, dict) else ""


def _label(name: str) -> str:
    return SETTINGS[name].label if name in SETTINGS else name


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else written(value)


def _proof(run: Run, verdict: Mapping[str, Any], hidden: _Hidden) -> Iterator[tuple[str, str]]:
    """What the models drew. The nearest training pictures beside them are left out."""
    for one in _list(verdict, "proof")[:MOST]:
        name = PurePosixPath(str(one.get("file"))).name
        drawn = None if name.startswith("nearest") else data_uri(verdict_file.folder(run) / name, SIZE)
        if drawn:
            caption = f"{one.get('caption') or one.get('prompt') or ''}, step {one.get('step')}"
            yield hidden.text(caption.lstrip(", ")), drawn
