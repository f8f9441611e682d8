"""The CLIP folders of models published into a WebUI: kept outside its checkpoints, each content once.

A WebUI shows a button for every folder below its checkpoints. A yaml names the CLIP folder by its full path, which ends
with a hash of its content.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...core.system import files
from ..hosts.publishing_targets import CHECKPOINTS

SHELF = "dreambooth_clip"  # the folder of them all
LINE = re.compile(r'^(\s*version: )(".*")$', re.MULTILINE)  # as the engine writes it into a yaml, a JSON string
PATIENCE = 120.0  # seconds
LARGEST_YAML = 2**20  # bytes of one that is looked into


def shelf_for(folder: Path, data: Path | None) -> Path | None:
    """Where the CLIP folders of models in `folder` are kept; None to keep them beside the models, if it is no WebUI's.

    data: the host's data folder, if `folder` is one of the host's, wherever that is.
    """
    if folder.parts[-2:] == CHECKPOINTS.parts:
        return folder.parent / SHELF
    return data / SHELF if data else None


@contextlib.contextmanager
def locked(shelf: Path | None) -> Iterator[None]:
    """Keep CLIP folders that no yaml names yet from being deleted. Without a shelf, nothing is locked. Raises OSError
    if the lock's holder hangs; copying a CLIP folder may take long."""
    with files.locked(shelf / "lock", PATIENCE) if shelf else contextlib.nullcontext():
        yield


def keep(clip: Path, shelf: Path) -> Path:
    """Copy `clip` into the shelf, which must be locked, unless its content is there; returns its path. Never leaves a
    part."""
    place = shelf / content_hash(clip)
    files.remove_unfinished(shelf)
    if not is_whole(place):
        with files.replacing(place) as temporary:
            shutil.copytree(clip, temporary)
    return place


def is_whole(place: Path) -> bool:
    return place.is_dir() and content_hash(place) == place.name


def content_hash(folder: Path) -> str:
    """A hash of the names and contents of all files below a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    found = sorted((path.relative_to(folder).as_posix(), files.sha256_of(path)) for path in paths)
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def shared_by(yaml: Path) -> Path | None:
    """The folder of a shelf that a yaml names, or None."""
    try:
        line = LINE.search(files.read_text(yaml, LARGEST_YAML))
        named = Path(json.loads(line[2])) if line else None
    except (OSError, ValueError):
        return None
    return named if named and named.parent.name == SHELF else None


def let_go(place: Path | None, folder: Path) -> bool:
    """Delete a shared folder, unless another model's yaml names it or somebody has changed it; whether it was deleted.

    folder: of the model that named it; searched for other yamls, like the WebUI's checkpoints beside the shelf.
    """
    if place is None or not place.is_dir():
        return False
    with contextlib.suppress(OSError), locked(place.parent):
        folders = {folder, place.parent.with_name(CHECKPOINTS.name)}
        if is_whole(place) and not is_named(place, (path for it in folders for path in it.rglob("*.yaml*"))):
            files.remove(place)
    return not place.exists()


def is_named(place: Path, yamls: Iterable[Path]) -> bool:
    """Whether one of these files, which may be unfinished, names it. Raises OSError if one cannot be read."""
    small = (path for path in yamls if path.is_file() and path.stat().st_size <= LARGEST_YAML)
    return any(place.name.encode() in path.read_bytes() for path in small)
