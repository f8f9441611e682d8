"""The pictures in a folder and below, fast: people name whole disks by mistake, and the page looks as they type."""

from __future__ import annotations

import operator
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import captions

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
ENDINGS = frozenset(extension[1:] for extension in EXTENSIONS)
MOST_FILES = 250_000  # in a folder and below; more are a whole disk that was named by mistake


def list_pictures(folder: Path, without: tuple[Path, ...] = ()) -> list[Path]:
    """All pictures in `folder` and below, in natural order; hidden files and the WebUI's previews are none.

    Folders in `without` (other concepts' and class folders that lie inside) are left out. Linked folders are followed,
    each once. Raises OSError for a folder that cannot be read, or holds more than MOST_FILES files of any kind.
    """
    seen = {_real(path) for path in without}
    walk = _Walk(seen)
    walk.into(str(folder), _real(folder), [])
    while walk.links:  # after the folders themselves, and in order: where a picture is found depends on no disk
        walk.links.sort()
        key, path = walk.links.pop(0)
        if (place := _real(path)) not in seen:
            walk.into(path, place, key)
    walk.found.sort(key=operator.itemgetter(0))
    return [Path(path) for _, path in walk.found]


class _Walk:
    """Through a folder, which may be a whole disk: paths are text here, and only links are asked where they lead."""

    def __init__(self, seen: set[str]):
        self.seen = seen  # folders without links
        self.found: list[tuple[list[Any], str]] = []  # (key that sorts, path)
        self.links: list[tuple[list[Any], str]] = []  # of folders
        self._files = 0

    def into(self, folder: str, real: str, key: list[Any]) -> None:
        """`real`: the folder without links."""
        self.seen.add(real)
        with os.scandir(folder) as items:
            for item in items:
                self._files += 1
                if self._files > MOST_FILES:
                    raise OSError(f"there are more than {MOST_FILES} files in it")
                name = item.name
                if name.startswith(".") or name == "__MACOSX":
                    continue
                if item.is_dir():
                    own, place = key + captions.part_key(name), os.path.join(real, os.path.normcase(name))
                    if _is_link(item):
                        self.links.append((own, item.path))
                    elif place not in self.seen:
                        self.into(item.path, place, own)
                    continue
                stem, _, ending = name.lower().rpartition(".")
                if ending in ENDINGS and not stem.endswith(".preview"):
                    self.found.append((key + captions.part_key(name), item.path))


def _real(path: str | Path) -> str:
    return os.path.normcase(os.path.realpath(path))


def _is_link(item: os.DirEntry[str]) -> bool:
    """Also one of Windows' other kinds (junctions), of which Python 3.12 is the first to tell."""
    if os.name != "nt" or item.is_symlink():
        return item.is_symlink()
    return bool(item.stat(follow_symlinks=False).st_file_attributes & stat.FILE_ATTRIBUTE_REPARSE_POINT)


class Listings:
    """The pictures of folders, each walked through once."""

    def __init__(self) -> None:
        self._known: dict[Any, list[Path]] = {}

    def of(self, folder: Path, without: Iterable[Path] = ()) -> list[Path]:
        """See list_pictures."""
        left_out = frozenset(without)
        if (folder, left_out) not in self._known:
            self._known[folder, left_out] = list_pictures(folder, tuple(left_out))
        return self._known[folder, left_out]
