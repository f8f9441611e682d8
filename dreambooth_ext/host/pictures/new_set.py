"""Make a whole set at once: filled under a temporary name, so that a kill leaves none or all of it."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...core.system import files
from ..errors import Refusal
from .uploads import MOST_SETS, PictureSets, safe_name

OLD = 24 * 3600  # seconds
FLUSHES = 16  # at once


@dataclass
class NewSet:
    """`place`: where its files go; `path`: where it is afterwards."""

    place: Path
    path: Path


@contextmanager
def new_set(sets: PictureSets, name: str, go_on: Callable[[], None] = lambda: None) -> Iterator[NewSet]:
    """A set of this name, or with a number behind it if there is one. Raises a Refusal (413) if there are too many.

    go_on: called again and again at the end, while the disk writes; what it raises leaves no set.
    """
    made = NewSet(sets.folder / f"{files.TEMPORARY}{secrets.token_hex(6)}", free_path(sets, name))
    made.place.mkdir(parents=True)
    sweep(sets.folder)
    try:
        _require_room(sets)
        yield made
        _flush(made.place, go_on)
        with sets.changing:
            _require_room(sets)
            made.path = free_path(sets, name)
            made.place.rename(made.path)
        files.flush_folder(sets.folder)
    finally:
        shutil.rmtree(made.place, ignore_errors=True)


def _flush(place: Path, go_on: Callable[[], None]) -> None:
    """Flush all files through the operating system's cache: several at once, which a disk takes together."""
    pool = ThreadPoolExecutor(FLUSHES)
    try:
        for _ in pool.map(files.flush_to_disk, [path for path in place.rglob("*") if path.is_file()]):
            go_on()
    finally:
        pool.shutdown(cancel_futures=True)
    files.flush_folder(place)


def free_path(sets: PictureSets, name: str) -> Path:
    """Where a new set of this name goes: with a number behind it if there is one."""
    name = usable(name)
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(path for path in map(sets.folder.joinpath, itertools.chain([name], numbered)) if not path.exists())


def _require_room(sets: PictureSets) -> None:
    if sum(not path.name.startswith(".") for path in sets.folder.iterdir()) >= MOST_SETS:
        raise Refusal(413, "upload.too_many_sets", "set", most=MOST_SETS)


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
