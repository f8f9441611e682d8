"""The files of a base as they were when it was opened: one that changes meanwhile, or until a run is resumed, is
noticed. Exports, previews and resumed runs read the base again, and would mix two models without a word.

Copies, new times and new names change nothing. Of a large file a digest knows the ends, where the names and shapes of
tensors are, and blocks evenly spread over the rest, a few MB in all: another model differs in nearly every number.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError

END = 2**20  # bytes at the beginning and at the end of a file that are read whole
BLOCK, BLOCKS = 2**14, 256  # bytes in each, and how many of them between the ends
GONE = {"size": None, "digest": None}


class BaseFiles:
    """paths: by the names that messages call them. field: the setting to blame."""

    def __init__(self, paths: Mapping[str, Path], field: str):
        self.paths, self.field = dict(paths), field
        self.known = self._seen()

    def _seen(self) -> dict[str, dict[str, Any]]:
        return {name: seen(path) for name, path in self.paths.items()}

    @property
    def digest(self) -> str:
        """Of all of them together."""
        return hashlib.sha256(
            repr(sorted((name, *about.values()) for name, about in self.known.items())).encode()
        ).hexdigest()

    def change(self) -> str:
        """What has changed since the base was opened, as a sentence; "" where nothing has."""
        return difference(self.known, self._seen())

    def require_unchanged(self) -> None:
        """Raise UserError where the base is not what it was when it was opened."""
        if what := self.change():
            remedy = "Put back what the run began with, then resume it; or begin a new run."
            raise UserError(self.field, f"the base is not what it was when it was read: {what}.", remedy)


def difference(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> str:
    """Of two states of a base's files, as part of a sentence: which of them changed."""
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name, GONE), now.get(name, GONE)
        if old != new:
            return f"{name} is gone" if new == GONE else f"{name} is new" if old == GONE else f"{name} has changed"
    return ""


def seen(path: Path) -> dict[str, Any]:
    """{"size", "digest"} of a file, or GONE."""
    try:
        with path.open("rb") as file:
            size, digest = os.fstat(file.fileno()).st_size, hashlib.sha256()
            for start, count in parts(size):
                file.seek(start)
                digest.update(file.read(count))
    except OSError:
        return GONE
    return {"size": size, "digest": digest.hexdigest()}


def parts(size: int) -> list[tuple[int, int]]:
    """Of a file of so many bytes, which are read: (where they begin, how many)."""
    if size <= 2 * END + BLOCK * BLOCKS:
        return [(0, size)]
    between = size - 2 * END - BLOCK
    blocks = [(END + between * index // (BLOCKS - 1), BLOCK) for index in range(BLOCKS)]
    return [(0, END), *blocks, (size - END, END)]
