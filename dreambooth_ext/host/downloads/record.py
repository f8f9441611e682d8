"""One download as it is kept and shown: what was asked, what is known of it, and how far it is. No secret is in it."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.system import files

LOOKING, FOUND, QUEUED, RUNNING, PAUSED, DONE, FAILED = (
    "looking", "found", "queued", "running", "paused", "done", "failed",
)  # fmt: skip
BUSY = (LOOKING, RUNNING)  # a process is at work
OVER = (DONE, FAILED)
ID = re.compile(r"[0-9a-f]{12}")


@dataclass
class Record:
    """state: LOOKING and what follows it. link: as given, without secrets; file: which of several. facts: as the verb
    tells them; problem: why it failed. done, of: bytes; stage: the code of what goes on. result: {"path", "kind",
    "sha256", "was_there"}. names, into: of files that are fetched as they are; title: what they are for."""

    link: str
    file: str = ""
    state: str = LOOKING
    facts: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None
    done: int = 0
    of: int = 0
    stage: str = ""
    result: dict[str, Any] | None = None
    names: list[str] = field(default_factory=list)
    into: str = ""
    title: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    began: float = field(default_factory=time.time)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def place(self) -> Path | None:
        """Where the unfinished file is."""
        told = (self.facts or {}).get("place")
        return Path(told) if told else None


def write(folder: Path, record: Record) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / f"{record.id}.json", record.as_dict())


def forget(folder: Path, id: str) -> None:
    (folder / f"{id}.json").unlink(missing_ok=True)


def read_all(folder: Path) -> list[Record]:
    """The records of a folder, the oldest first; what cannot be read is left out."""
    names = {one.name for one in dataclasses.fields(Record)}
    found = []
    for path in folder.glob("*.json") if folder.is_dir() else []:
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            known = {name: value for name, value in files.read_json(path, 2**20).items() if name in names}
            record = Record(**known)
            if ID.fullmatch(record.id) and path.stem == record.id:
                found.append(record)
    return sorted(found, key=lambda record: record.began)
