"""A window's remote pictures, kept in one file on disk until they have been trained on; made by one process, for all of
this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ...core.system import files
from .samples import HEAD, Record
from .tar_members import Member, Reader, exactly

CHUNK = 2**20  # bytes


def notes_of(content: Path) -> Path:
    """The file that says what is in `content`. It is written last."""
    return content.with_suffix(".json")


def discard(content: Path) -> None:
    for path in (notes_of(content), content):  # what another process has open, Windows deletes with the folder
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


class Kept:
    """A `Keeper` that copies pictures into a file, in a `with`: only one process at a time is in it. look: called while
    another one is; may raise."""

    def __init__(self, content: Path, look: Callable[[], None]):
        self.content, self._look = content, look
        self._lock: IO[bytes] | None = None
        self._file: IO[bytes] | None = None
        self._temporary = content.with_name(f"{files.TEMPORARY}{content.name}")

    def __enter__(self) -> Kept:
        while (lock := files.try_lock(self.content.with_name("window.lock"))) is None:
            self._look()
            time.sleep(0.05)
        self._lock = lock
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file:
            self._file.close()
        assert self._lock is not None
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)
        self._lock.close()

    def known(self) -> tuple[list[Record], dict[str, Any]] | None:
        """Return the window's records and the place behind it, if a process has read it."""
        if not notes_of(self.content).exists():
            return None
        said = files.read_json(notes_of(self.content))
        return [Record(**{**row, "captions": tuple(row["captions"])}) for row in said["records"]], said["next"]

    def keep(self, member: Member, reader: Reader) -> tuple[int, bytes]:
        if self._file is None:
            self._file = self._temporary.open("w+b")
        at, left, head = self._file.tell(), member.size, b""
        while left:
            block = exactly(reader, min(left, CHUNK))
            head = head or block[:HEAD]
            self._file.write(block)
            left -= len(block)
        return at, head

    def whole(self, member: Member, reader: Reader, head: bytes) -> bytes:
        assert self._file is not None
        end = self._file.tell()
        self._file.seek(end - member.size)
        content = self._file.read(member.size)
        self._file.seek(end)
        return content

    def finish(self, records: Sequence[Record], after: dict[str, Any]) -> None:
        """Keep what was read under its name, with what it is."""
        if self._file is None:
            self._file = self._temporary.open("w+b")
        self._file.close()
        files.replace(self._temporary, self.content)
        rows = [dataclasses.asdict(record) for record in records]
        made = notes_of(self.content).with_name(f"{files.TEMPORARY}{notes_of(self.content).name}")
        made.write_text(json.dumps({"records": rows, "next": after}), encoding="utf-8")  # a power cut begins it anew
        files.replace(made, notes_of(self.content))
