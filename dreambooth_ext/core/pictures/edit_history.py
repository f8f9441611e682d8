"""What was done to each picture of a set, step by step, as `<set>/.edits/edits.json` keeps it.

The picture that is seen in the set is what the step `at` made of the original, `<set>/.edits/originals/<file>`; every
step knows the digest of the file that it made, so that a picture which somebody replaced is not taken for the edited
one. Masks are kept as files of their own, named by their content, `<set>/.edits/masks/`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..messages.message import Message
from ..system import files
from .edit import Edit, Size

FOLDER = ".edits"  # of a set; hidden, so that nothing in it is trained on
FILE = "edits.json"
ORIGINALS, MASKS = "originals", "masks"
MOST_STEPS = 50  # of a picture; the first is always kept
LARGEST = 32 * 2**20  # bytes of the file
NAME = re.compile(r'[^/\\:*?"<>|\x00-\x1f.][^/\\:*?"<>|\x00-\x1f]{0,250}')  # of a file in ORIGINALS or MASKS


@dataclass(frozen=True)
class Mask:
    """A mask of the picture: `painted` was made for the picture as `frame` left it; `shown` is that, carried along."""

    painted: str
    frame: Edit
    shown: str


@dataclass(frozen=True)
class Step:
    """One state of a picture. digest: sha256 of the file. masks: by the name that they have in the set."""

    edit: Edit
    digest: str
    masks: Mapping[str, Mask] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """All states of one picture. size: of the upright original."""

    original: str
    size: Size
    steps: tuple[Step, ...]
    at: int = 0

    @property
    def now(self) -> Step:
        return self.steps[self.at]

    @property
    def is_edited(self) -> bool:
        return self.now.edit != self.steps[0].edit or dict(self.now.masks) != dict(self.steps[0].masks)

    def done(self, step: Step) -> History:
        """With one more step; those that were undone are dropped, and the oldest but the first of too many."""
        steps = (*self.steps[: self.at + 1], step)
        if len(steps) > MOST_STEPS:
            steps = (steps[0], *steps[-MOST_STEPS + 1 :])
        return dataclasses.replace(self, steps=steps, at=len(steps) - 1)

    def moved(self, by: int) -> History | None:
        """Some steps back (negative) or forth; None if there are none."""
        at = self.at + by
        return dataclasses.replace(self, at=at) if 0 <= at < len(self.steps) else None

    def with_step(self, step: Step) -> History:
        """With the present step replaced: the same edit gave another file."""
        return dataclasses.replace(self, steps=(*self.steps[: self.at], step, *self.steps[self.at + 1 :]))

    def found_at(self, digest: str) -> History | None:
        """At the step that made this file, the nearest of several; None if none did."""
        places = [place for place, step in enumerate(self.steps) if step.digest == digest]
        if not places:
            return None
        return dataclasses.replace(self, at=min(places, key=lambda place: abs(place - self.at)))


def used_files(histories: Mapping[str, History]) -> tuple[set[str], set[str]]:
    """The names of the originals and of the masks that some step needs."""
    masks = [mask for history in histories.values() for step in history.steps for mask in step.masks.values()]
    return {history.original for history in histories.values()}, {
        name for mask in masks for name in (mask.painted, mask.shown)
    }


def read(folder: Path) -> dict[str, History]:
    """The histories of a set's pictures by their names; none without the file. Raises UserError if it is damaged."""
    path = folder / FOLDER / FILE
    if not path.exists():
        return {}
    try:
        known = files.read_json(path, LARGEST)["pictures"]
        return {str(name): _history(values) for name, values in known.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, UserError) as error:
        raise UserError("editing.damaged", "set", file=f"{FOLDER}/{FILE}", set=folder.name) from error


def write(folder: Path, histories: Mapping[str, History]) -> None:
    known = {name: _as_dict(history) for name, history in histories.items()}
    files.write_json(folder / FOLDER / FILE, {"format": 1, "pictures": known})


def _as_dict(history: History) -> dict[str, Any]:
    steps = [
        {
            "edit": step.edit.as_dict(),
            "digest": step.digest,
            "masks": {
                name: {"painted": mask.painted, "frame": mask.frame.as_dict(), "shown": mask.shown}
                for name, mask in step.masks.items()
            },
        }
        for step in history.steps
    ]
    return {"original": history.original, "size": list(history.size), "steps": steps, "at": history.at}


def _history(values: Mapping[str, Any]) -> History:
    """Raises one of several errors for anything that is not as `_as_dict` wrote it: a set may come from elsewhere."""
    width, height = map(int, values["size"])
    steps = tuple(
        Step(
            Edit.from_dict(step["edit"]),
            str(step["digest"]),
            {
                _safe(name): Mask(_safe(mask["painted"]), Edit.from_dict(mask["frame"]), _safe(mask["shown"]))
                for name, mask in step["masks"].items()
            },
        )
        for step in values["steps"]
    )
    at = int(values["at"])
    if not (0 <= at < len(steps) and width > 0 and height > 0):
        raise ValueError(Message("editing.no_step"))
    return History(_safe(values["original"]), (width, height), steps, at)


def _safe(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(Message("editing.no_step"))
    return name
