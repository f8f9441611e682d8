"""The CLIP folders of models that are published into a WebUI: outside its checkpoints, each content only once.

A WebUI shows a button for every folder below its checkpoints. A yaml names the folder by its full path, which ends with
a hash of what is in it.
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
    """Where the CLIP folders go of models in `folder`; None where it is not a WebUI's, and they lie beside them.

    data: the host's data folder, where `folder` is the host's, which may be any.
    """
    if folder.parts[-2:] == CHECKPOINTS.parts:
        return folder.parent / SHELF
    return data / SHELF if data else None


@contextlib.contextmanager
def locked(shelf: Path | None) -> Iterator[None]:
    """While a folder that no yaml names yet is to stay. Without a shelf, nothing is locked. Raises OSError where who
    has it is paused, or hangs; to copy a CLIP may take long."""
    with files.locked(shelf / "lock", PATIENCE) if shelf else contextlib.nullcontext():
        yield


def keep(clip: Path, shelf: Path) -> Path:
    """A folder with the content of `clip` in the shelf, which is locked; returns its path. It is written whole."""
    place = shelf / content_hash(clip)
    files.remove_unfinished(shelf)
    if not is_whole(place):
        with files.replacing(place) as temporary:
            shutil.copytree(clip, temporary)
    return place


def is_whole(place: Path) -> bool:
    return place.is_dir() and content_hash(place) == place.name


def content_hash(folder: Path) -> str:
    """Of the names and contents of all files below a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    found = sorted((path.relative_to(folder).as_posix(), files.sha256_of(path)) for path in paths)
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def shared_by(yaml: Path) -> Path | None:
    """The folder of a shelf that a yaml names, if it does."""
    try:
        line = LINE.search(files.read_text(yaml, LARGEST_YAML))
        named = Path(json.loads(line[2])) if line else None
    except (OSError, ValueError):
        return None
    return named if named and named.parent.name == SHELF else None


def let_go(place: Path | None, folder: Path) -> bool:
    """Delete a shared folder, unless another model's yaml names it or somebody has changed it; whether it was deleted.

    folder: of the model that named it; looked through for others, as is the WebUI's own beside the shelf.
    """
    if place is None or not place.is_dir():
        return False
    with contextlib.suppress(OSError), locked(place.parent):
        folders = {folder, place.parent.with_name(CHECKPOINTS.name)}
        if is_whole(place) and not is_named(place, (path for it in folders for path in it.rglob("*.yaml*"))):
            files.remove(place)
    return not place.exists()


def is_named(place: Path, yamls: Iterable[Path]) -> bool:
    """Whether one of these files, which may be unfinished ones, has it. Raises OSError for one that cannot be read."""
    small = (path for path in yamls if path.is_file() and path.stat().st_size <= LARGEST_YAML)
    return any(place.name.encode() in path.read_bytes() for path in small)
