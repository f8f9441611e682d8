"""Folders -> the pictures in them, in natural order, and quickly: there may be hundreds of thousands of files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .captions import natural_key

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
FORMATS = "JPG, PNG, WebP or BMP"
MOST_FILES = 250_000  # in a folder and below; more are a whole disk that was named by mistake


@dataclass(frozen=True)
class Found:
    """One picture's file."""

    folder: str
    name: str
    parts: tuple[str, ...]  # the folders on the way here from the one that was asked for
    others: frozenset[str]  # what else is in the folder, captions among it, as `os.path.normcase` has the names

    @property
    def top(self) -> str:
        """The folder directly below the one that was asked for, or "" in that itself."""
        return self.parts[0] if self.parts else ""

    @property
    def full_name(self) -> str:
        return os.path.join(self.folder, self.name)

    @property
    def path(self) -> Path:
        return Path(self.full_name)


def list_pictures(folder: Path, without: Iterable[Path] = ()) -> list[Path]:
    """All pictures in `folder` and below, in natural order; hidden files and the WebUI's previews are none.

    Folders in `without` (other concepts' and class folders that lie inside) are left out. Linked folders are followed,
    each once. Raises OSError for a folder that cannot be read, or holds more than MOST_FILES files of any kind.
    """
    return [found.path for found in find_pictures(folder, without)]


def find_pictures(folder: Path, without: Iterable[Path] = (), nested: bool = True) -> Iterator[Found]:
    """The same with what lies around each. `nested`: also those below."""
    seen = {os.path.realpath(path) for path in without}
    return _walk(str(folder), (), seen, itertools.count(1), nested)


def _walk(folder: str, parts: tuple[str, ...], seen: set[str], count: Iterator[int], nested: bool) -> Iterator[Found]:
    seen.add(os.path.realpath(folder))
    inside, others = [], set()
    with os.scandir(folder) as items:
        for item in items:
            if next(count) > MOST_FILES:
                raise OSError(f"there are more than {MOST_FILES} files in it")
            name = item.name
            if name[0] == "." or name == "__MACOSX":
                continue
            if is_folder := item.is_dir():
                others.add(os.path.normcase(name))  # one that is called like a caption file is no caption
                if nested:
                    inside.append((natural_key(name), name, is_folder))
            elif is_picture(name):
                inside.append((natural_key(name), name, is_folder))
            else:
                others.add(os.path.normcase(name))
    siblings = frozenset(others)
    for _, name, is_folder in sorted(inside):
        if not is_folder:
            yield Found(folder, name, parts, siblings)
        elif os.path.realpath(path := os.path.join(folder, name)) not in seen:
            yield from _walk(path, (*parts, name), seen, count, nested)


def is_picture(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in EXTENSIONS and not stem.lower().endswith(".preview")
