"""What a user writes about a run, and whether it is one of the good ones: `notes.json` in its folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import UserError
from ..system import files
from .run_folder import Run

FILE = "notes.json"
LOCK = "notes.lock"
LONGEST = 10_000  # letters
LARGEST = 256 * 1024  # bytes of the file


@dataclass(frozen=True)
class Notes:
    note: str = ""
    starred: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read(run: Run) -> Notes:
    """No notes where there is no file, or a damaged one."""
    try:
        content = files.read_json(run.path / FILE, LARGEST)
        note, starred = content.get("note"), content.get("starred")
    except (OSError, ValueError, AttributeError):
        return Notes()
    return Notes(note if isinstance(note, str) else "", starred is True)


def change(run: Run, note: str | None = None, starred: bool | None = None) -> Notes:
    """Write what is given, None leaves it as it is; returns what is noted now.

    Raises UserError("note") for a text that is too long, and FileNotFoundError where the run was deleted.
    """
    if note is not None and len(note) > LONGEST:
        raise UserError("runs.note_too_long", "note", count=len(note), most=LONGEST)
    run.check_exists()
    with files.locked(run.path / LOCK):  # a note and a star may come at once
        run.check_exists()
        notes = read(run)
        notes = replace(
            notes,
            note=notes.note if note is None else note.replace("\r\n", "\n").strip(),
            starred=notes.starred if starred is None else starred,
        )
        files.write_json(run.path / FILE, notes.as_dict())
    return notes
