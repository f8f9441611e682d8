"""A copy of any folder's pictures as a set, where they can be changed; the folder is only read."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.data import folder_scan
from ...core.system import files
from ..errors import Refusal
from .edit_files import masks_beside
from .new_set import new_set
from .uploads import MOST_PICTURES, SPARE, PictureSets, reading, safe_name


def copy_folder(sets: PictureSets, folder: Path) -> dict[str, Any]:
    """{"set", "folder", "count"} of a new set with all pictures of the folder and below, with their captions and masks.

    They are copied and never linked: the folder's own files may be written over by other programs. Raises a Refusal.
    """
    with reading(folder):
        found = list(folder_scan.find_pictures(folder))
        need = sum(one.path.stat().st_size for one in found)
    if not found:
        raise Refusal(422, "pictures.none", "folder", folder=repr(str(folder)[:200]), formats=folder_scan.FORMATS)
    if len(found) > MOST_PICTURES:
        raise Refusal(413, "upload.set_full", "folder", most=MOST_PICTURES)
    sets.folder.mkdir(parents=True, exist_ok=True)
    if files.free_bytes(sets.folder) < need + SPARE:
        raise Refusal(507, "upload.disk_full", folder=str(sets.folder))
    with new_set(sets, folder.name) as made:
        taken: set[str] = set()
        for one in found:
            stem = safe_name(" - ".join((*one.parts, Path(one.name).stem)))
            name = next(name for name in _numbered(stem) if name.casefold() not in taken)
            taken.add(name.casefold())
            shutil.copy2(one.path, made.place / f"{name}{one.path.suffix}")
            if caption := one.caption_file(".txt"):
                shutil.copy2(caption, made.place / f"{name}.txt")
            for mask in masks_beside(one.path):
                shutil.copy2(one.path.with_name(mask), made.place / (name + mask[len(one.path.stem) :]))
    return {"set": made.path.name, "folder": str(made.path), "count": len(found)}


def _numbered(stem: str) -> Iterator[str]:
    """The name, and the name with -2, -3 ... behind it."""
    yield stem
    yield from (f"{stem}-{number}" for number in itertools.count(2))
