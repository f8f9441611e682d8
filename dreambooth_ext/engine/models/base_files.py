"""Notice if a base's files change after it was opened.

Exports, previews and resumed runs read the base again, and would otherwise silently mix two models. Copying, touching
or renaming files does not count as a change. The digest of a large file covers its ends, which hold the tensors' names
and shapes, and blocks evenly spread over the rest, a few MB in all: another model differs in nearly every number. If a
file was modified only between those blocks, its time or inode has changed, and then `Wholes` compares all of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.system.files import sha256_of

END = 2**20  # bytes at the beginning and end of a file that are always read
BLOCK, BLOCKS = 2**14, 256  # bytes per block, and number of blocks between the ends
TELLING = 0.5  # seconds between progress reports
GONE = {"size": None, "digest": None}


class BaseFiles:
    """A base's files as they were when it was opened. paths: by their names in messages. field: the setting to name in
    errors."""

    def __init__(self, paths: Mapping[str, Path], field: str):
        self.paths, self.field = dict(paths), field
        self.wholes = Wholes(self.paths)  # first, since later changes get another time
        self.known = self._seen()

    def _seen(self) -> dict[str, dict[str, Any]]:
        return {name: seen(path) for name, path in self.paths.items()}

    @property
    def digest(self) -> str:
        """One digest of all files together."""
        return hashlib.sha256(
            repr(sorted((name, *about.values()) for name, about in self.known.items())).encode()
        ).hexdigest()

    def change(self) -> Message | None:
        """Return what has changed since the base was opened, as part of a sentence; None if nothing has."""
        return difference(self.known, self._seen()) or self.wholes.change()

    def require_unchanged(self) -> None:
        """Raise UserError if the base has changed since it was opened."""
        if what := self.change():
            raise UserError("base.changed_since_read", self.field, change=what)


def difference(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> Message | None:
    """Return which file differs between two states of a base, as part of a sentence; None if none does."""
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name, GONE), now.get(name, GONE)
        if old != new:
            code = "base.file_gone" if new == GONE else "base.file_new" if old == GONE else "base.file_changed"
            return Message(code, file=name)
    return None


@dataclass(frozen=True)
class Mark:
    """Time and inode of a file: cheap to compare, but a copy or a touch also changes them."""

    mtime_ns: int
    inode: int  # 0 if there is no permanent one

    def fits(self, other: Mark) -> bool:
        return self.mtime_ns == other.mtime_ns and (self.inode == other.inode or not self.inode or not other.inode)


class Wholes:
    """Hashes of whole large files, computed in a thread while a run prepares, which takes seconds per file. Later, a
    file is only read again if its mark has changed."""

    def __init__(self, paths: Mapping[str, Path]):
        marks = {name: mark(path) for name, path in paths.items() if is_large(path)}
        self.marks = {name: known for name, known in marks.items() if known}
        self.paths = {name: paths[name] for name in self.marks}
        self._hashes: dict[str, str] = {}  # "" for a file that changed while it was read
        self._others: dict[str, Mark] = {}  # marks of files that turned out to have other content
        self._thread: threading.Thread | None = None

    def begin(self, noted: Mapping[str, Mapping[str, Any]]) -> None:
        """Start hashing. noted: the `notes` of an earlier process; files with the same mark as then are not read."""
        for name in self.marks.keys() & noted.keys():
            old = noted[name]
            if Mark(old["mtime_ns"], old["inode"]).fits(self.marks[name]):
                self._hashes[name] = old["sha256"]
        self._thread = threading.Thread(target=self._hash, daemon=True)  # a refused run does not wait for it
        self._thread.start()

    def _hash(self) -> None:
        for name in self.paths.keys() - self._hashes.keys():
            self._hashes[name] = self._steady(name)

    def _steady(self, name: str) -> str:
        """Return a file's hash. A file touched meanwhile is read again; return "" if its content differs then."""
        path, found = self.paths[name], hash_of(self.paths[name])
        now = mark(path)
        if now and not now.fits(self.marks[name]):
            self.marks[name] = now
            return found if hash_of(path) == found else ""
        return found

    def wait(self, told: Callable[[int, int], None]) -> None:
        """Wait until all files are hashed, or `told` raises. Meanwhile `told` is called with the number done and the
        total."""
        assert self._thread, "nothing was begun"
        self._thread.join(TELLING)
        while self._thread.is_alive():
            told(len(self._hashes), len(self.paths))
            self._thread.join(TELLING)

    def notes(self) -> dict[str, dict[str, Any]]:
        """Return {file: {mtime_ns, inode, sha256}}. Waits for the thread."""
        assert self._thread, "nothing was begun"
        self._thread.join()
        return {name: {**dataclasses.asdict(known), "sha256": self._hashes[name]} for name, known in self.marks.items()}

    def difference(self, noted: Mapping[str, Mapping[str, Any]]) -> Message | None:
        """Return which file differs from an earlier process's notes, worded as in the function `difference`; None if
        none does."""
        if not noted:
            return None
        now = self.notes()
        changed = (name for name in sorted(now.keys() & noted.keys()) if now[name]["sha256"] != noted[name]["sha256"])
        return next((Message("base.file_changed", file=name) for name in changed), None)

    def change(self) -> Message | None:
        """Return which file's content has changed since the start, worded as in `difference`; None if none has, or if
        `begin` was not called."""
        if self._thread is None:
            return None
        self._thread.join()
        changed = (name for name in sorted(self.paths) if self._is_another(name))
        return next((Message("base.file_changed", file=name) for name in changed), None)

    def _is_another(self, name: str) -> bool:
        known, before, now = self._hashes[name], self.marks[name], mark(self.paths[name])
        if not known or now is None:
            return True
        if now.fits(before):
            return False
        if name in self._others and now.fits(self._others[name]):
            return True
        if hash_of(self.paths[name]) != known:
            self._others[name] = now
            return True
        # some network drives give a new inode each time: then it is not compared again
        self.marks[name] = dataclasses.replace(now, inode=0) if now.mtime_ns == before.mtime_ns else now
        return False


def seen(path: Path) -> dict[str, Any]:
    """Return {"size", "digest"} of a file, or GONE if it cannot be read."""
    try:
        with path.open("rb") as file:
            size, digest = os.fstat(file.fileno()).st_size, hashlib.sha256()
            for start, count in parts(size):
                file.seek(start)
                digest.update(file.read(count))
    except OSError:
        return GONE
    return {"size": size, "digest": digest.hexdigest()}


def mark(path: Path) -> Mark | None:
    """Return a file's mark, or None if it cannot be accessed."""
    try:
        about = path.stat()
    except OSError:
        return None
    return Mark(about.st_mtime_ns, about.st_ino)


def hash_of(path: Path) -> str:
    """Return the SHA-256 of the whole file; "" if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return ""


def is_large(path: Path) -> bool:
    """Whether `seen` reads only parts of the file."""
    try:
        return len(parts(path.stat().st_size)) > 1
    except OSError:
        return False


def parts(size: int) -> list[tuple[int, int]]:
    """Return the parts of a file of this size that are read, as (start, length)."""
    if size <= 2 * END + BLOCK * BLOCKS:
        return [(0, size)]
    between = size - 2 * END - BLOCK
    blocks = [(END + between * index // (BLOCKS - 1), BLOCK) for index in range(BLOCKS)]
    return [(0, END), *blocks, (size - END, END)]
