"""What was changed in a set's captions, so that it can be undone: `<set>/.edits/captions.json`, which survives reloads.

A step is written before the captions are, so a kill in between can be undone, too. What was changed by other means
since, by hand or in another program, is left alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.captions.tag_edits import Edit
from ...core.system import files

FOLDER = ".edits"  # hidden, so that nothing in it is trained on
FILE = "captions.json"
MOST_STEPS = 100
LARGEST = 16 * 2**20  # bytes of the file
LONGEST_TOLD = 80  # letters of a value in what a step is called


class History:
    """The steps of one set, oldest first. `at`: how many of them are done; the others were undone.

    A step: {"about": what `about` gives, "time", "before": {picture: caption}, "after": {picture: caption}}.
    """

    def __init__(self, folder: Path):
        self.path = folder / FOLDER / FILE
        self.steps, self.at = self._read()

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        try:
            known = files.read_json(self.path, LARGEST)
            steps, at = known["steps"], known["at"]
            if isinstance(steps, list) and isinstance(at, int) and 0 <= at <= len(steps) and all(map(_is_step, steps)):
                return steps, at
        except (OSError, ValueError, LookupError, TypeError):
            pass
        return [], 0

    def add(self, edit: Edit, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Note a change that is about to be made; what was undone before it is forgotten."""
        step = {"about": about(edit, len(after)), "time": time.time(), "before": dict(before), "after": dict(after)}
        self.steps = [*self.steps[: self.at], step][-MOST_STEPS:]
        self.at = len(self.steps)
        self.write()

    def write(self) -> None:
        while len(text := json.dumps({"steps": self.steps, "at": self.at}, ensure_ascii=False)) > LARGEST // 4:
            if len(self.steps) < 2 or self.at < 2:
                break
            self.steps, self.at = self.steps[1:], self.at - 1
        files.write_text(self.path, text)

    @property
    def undoable(self) -> dict[str, Any] | None:
        """What would be undone next, as `about` gives it."""
        return self.steps[self.at - 1]["about"] if self.at else None

    @property
    def redoable(self) -> dict[str, Any] | None:
        return self.steps[self.at]["about"] if self.at < len(self.steps) else None

    def moved(self, back: bool) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Go one step back or on; returns the captions that the step left, and those that are due now."""
        self.at += -1 if back else 1
        step = self.steps[self.at if back else self.at - 1]
        return (step["after"], step["before"]) if back else (step["before"], step["after"])


def about(edit: Edit, count: int) -> dict[str, Any]:
    """What a step is called: {"kind", "find", "text", "tags", "count"}; count: of captions that it changes."""
    tags = ", ".join(edit.tags)[:LONGEST_TOLD]
    return {"kind": edit.kind, "find": edit.find[:LONGEST_TOLD], "text": edit.text[:LONGEST_TOLD], "tags": tags,
            "count": count}  # fmt: skip


def _is_step(step: Any) -> bool:
    if not isinstance(step, dict) or not isinstance(step.get("about"), dict):
        return False
    texts = [step.get("before"), step.get("after")]
    return all(isinstance(one, dict) and all(isinstance(text, str) for text in one.values()) for one in texts)
