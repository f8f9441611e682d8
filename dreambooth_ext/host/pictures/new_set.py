"""Make a whole set at once: filled under a temporary name, so that a kill leaves none or all of it."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...core.system import files
from ..errors import Refusal
from .uploads import MOST_SETS, PictureSets, safe_name

OLD = 24 * 3600  # seconds


@dataclass
class NewSet:
    """`place`: where its files go; `path`: where it is afterwards."""

    place: Path
    path: Path


@contextmanager
def new_set(sets: PictureSets, name: str) -> Iterator[NewSet]:
    """A set of this name, or with a number behind it if there is one. Raises a Refusal (413) if there are too many."""
    name = usable(name)
    made = NewSet(sets.folder / f"{files.TEMPORARY}{secrets.token_hex(6)}", sets.folder / name)
    made.place.mkdir(parents=True)
    sweep(sets.folder)
    try:
        yield made
        files.flush_to_disk(made.place)
        with sets.changing:
            if sum(not path.name.startswith(".") for path in sets.folder.iterdir()) >= MOST_SETS:
                raise Refusal(413, "upload.too_many_sets", "set", most=MOST_SETS)
            numbered = (sets.folder / f"{name}-{number}" for number in itertools.count(2))
            made.path = next(path for path in itertools.chain([made.path], numbered) if not path.exists())
            made.place.rename(made.path)
        files.flush_folder(sets.folder)
    finally:
        shutil.rmtree(made.place, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Delete what killed processes left half made, once nobody can be at it any more."""
    for path in folder.glob(f"{files.TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > OLD:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def usable(name: str) -> str:
    """A set's name from any text."""
    try:
        return safe_name(name.strip()[:60].strip().lstrip("."))
    except Refusal:
        return "pictures"
