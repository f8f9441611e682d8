"""The six scores of a model, from 0 to 1. Higher is better, except for copies."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..messages.message import Message

LABELS = {
    "likeness": Message("verdict.score_likeness"),
    "prompt": Message("verdict.score_prompt"),
    "variety": Message("verdict.score_variety"),
    "copies": Message("verdict.score_copies"),
    "class_kept": Message("verdict.score_class_kept"),
    "world_kept": Message("verdict.score_world_kept"),
}
NAMES = tuple(LABELS)


@dataclass(frozen=True)
class Scores:
    """None where there is nothing to measure it by, as without a word the class.

    likeness: pictures by the word are like the photographs. prompt: they show what the prompt says beside it. variety:
    pictures of one prompt differ. copies: share that repeats a photograph. class_kept: without the word the subject
    does not appear. world_kept: other prompts are still followed.
    """

    likeness: float | None = None
    prompt: float | None = None
    variety: float | None = None
    copies: float | None = None
    class_kept: float | None = None
    world_kept: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return {name: None if value is None else round(value, 3) for name, value in asdict(self).items()}
