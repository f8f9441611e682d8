"""Copies of sets, and of any folder's pictures, as new sets that may be changed; what is copied is only read.

A copy of a set has all that the set has: captions and masks, what was done to pictures and can be undone, and the files
as they came of pictures that were converted. A copy of a folder has its pictures with their captions and masks; those
in formats that training does not read are converted, as uploads are.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...core.config.parsing import some
from ...core.data import folder_scan
from ...core.pictures import edit_history, viewable
from ...core.system import files
from ..errors import Refusal
from . import converted, set_about
from .edit_files import masks_beside, mend
from .new_set import free_path, new_set
from .uploads import MOST_PICTURES, SPARE, USED, PictureSets, reading, safe_name

Tell = Callable[[int, int], None]  # (how many files are done, of how many); what it raises ends the copy
Ask = Callable[..., Any]  # of the picture worker: (task, picture, **values) -> answer
PARTS = (
    "",
    edit_history.FOLDER,
    f"{edit_history.FOLDER}/{edit_history.ORIGINALS}",
    f"{edit_history.FOLDER}/{edit_history.MASKS}",
    converted.KEPT,
)  # the folders of a set


def copy_set(sets: PictureSets, name: str, tell: Tell = lambda done, total: None) -> dict[str, Any]:
    """{"set", "folder", "count"} of a copy of a set. Files are linked if the disk can; they are only ever replaced.

    Others may change the set meanwhile: what they changed is copied anew at the end, when nobody can. Raises a Refusal.
    """
    folder = sets.path(name)
    sets.settle(folder)
    with new_set(sets, folder.name, lambda: tell(total, total)) as made:
        total = _bring(folder, made.place, tell)
        with sets.changing:
            mend(folder)
            _bring(folder, made.place)
        if title := set_about.title(folder):
            number = free_path(sets, folder.name).name.rpartition("-")[2]
            set_about.write_title(made.place, f"{title[:90]} ({number})")
        count = len(folder_scan.list_pictures(made.place))
    return {"set": made.path.name, "folder": str(made.path), "count": count}


def _bring(folder: Path, place: Path, tell: Tell = lambda done, total: None) -> int:
    """Make the files in `place` those of the set in `folder`; how many there are."""
    wanted, there = _files_of(folder), _files_of(place)
    for name in there.keys() - wanted.keys():
        (place / name).unlink()
    for done, (name, stamp) in enumerate(wanted.items()):
        tell(done, len(wanted))
        if there.get(name) == stamp:
            continue
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):  # it was deleted or renamed meanwhile
            _link_or_copy(folder / name, target)
    tell(len(wanted), len(wanted))
    return len(wanted)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # as edit_files.link_or_copy, but a whole set may not fit
        if files.free_bytes(target.parent) < source.stat().st_size + SPARE:
            raise Refusal(507, "upload.disk_full", folder=str(target.parent)) from None
        shutil.copy2(source, target)


def _files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """The files of a set, by their paths in it, with what tells each from another of its name: its time and size."""
    found = {}
    for part in PARTS:
        place = folder / part
        if not place.is_dir() or place.is_symlink():
            continue
        for item in os.scandir(place):
            if item.is_file(follow_symlinks=False) and item.name != USED and not item.name.startswith(files.TEMPORARY):
                about = os.stat(item.path)
                found[f"{part}/{item.name}" if part else item.name] = (about.st_mtime_ns, about.st_size)
    return found


def copy_folder(sets: PictureSets, folder: Path, ask: Ask, tell: Tell = lambda done, total: None) -> dict[str, Any]:
    """{"set", "folder", "count", "left_out"} of a new set with all pictures of the folder and below.

    left_out: names of pictures that could not be converted. All are copied and never linked: the folder's own files may
    be written over by other programs. Raises a Refusal.
    """
    found = _pictures_of(folder)
    sets.folder.mkdir(parents=True, exist_ok=True)
    if files.free_bytes(sets.folder) < sum(one.path.stat().st_size for one in found) + SPARE:
        raise Refusal(507, "upload.disk_full", folder=str(sets.folder))
    left_out = []
    with new_set(sets, folder.name, lambda: tell(len(found), len(found))) as made:
        taken: set[str] = set()
        for done, one in enumerate(found):
            tell(done, len(found))
            stem = safe_name(" - ".join((*one.parts, Path(one.name).stem)))
            name = next(name for name in _numbered(stem) if name.casefold() not in taken)
            if not viewable.is_converted(one.name):
                shutil.copyfile(one.path, made.place / f"{name}{one.path.suffix}")
            elif not _was_converted(one.path, made.place / name, ask):
                left_out.append("/".join((*one.parts, one.name)))
                continue
            taken.add(name.casefold())
            _copy_beside(one, made.place, name)
        tell(len(found), len(found))
        if len(left_out) == len(found):
            raise _refused("pictures.none_readable", folder, names=some(left_out))
    count = len(found) - len(left_out)
    return {"set": made.path.name, "folder": str(made.path), "count": count, "left_out": left_out}


def _pictures_of(folder: Path) -> list[folder_scan.Found]:
    """The pictures that training reads, and those that can be converted. Raises a Refusal."""
    left = folder_scan.LeftOut()
    with reading(folder):
        found = list(folder_scan.find_pictures(folder, left=left))
    found += [one for one in left.found if viewable.is_converted(one.name)]
    if not found:
        raise _refused("pictures.none", folder)
    if len(found) > MOST_PICTURES:
        raise Refusal(413, "upload.set_full", "folder", most=MOST_PICTURES)
    return found


def _refused(code: str, folder: Path, **values: Any) -> Refusal:
    formats = f"{folder_scan.FORMATS}, {viewable.CONVERTED_FORMATS}"
    return Refusal(422, code, "folder", folder=repr(str(folder)[:200]), formats=formats, **values)


def _was_converted(picture: Path, target: Path, ask: Ask) -> bool:
    """Write a picture converted beside `target`, and keep it as it came; False if it cannot be read."""
    try:
        converted.convert(ask, picture, target)
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        return False
    kept = target.parent / converted.KEPT / f"{target.name}{picture.suffix}"
    kept.parent.mkdir(exist_ok=True)
    shutil.copyfile(picture, kept)
    return True


def _copy_beside(one: folder_scan.Found, place: Path, name: str) -> None:
    """Copy a picture's caption and masks."""
    if caption := one.caption_file(".txt"):
        shutil.copyfile(caption, place / f"{name}.txt")
    for mask in masks_beside(one.path):
        shutil.copyfile(one.path.with_name(mask), place / (name + mask[len(one.path.stem) :]))


def _numbered(stem: str) -> Iterator[str]:
    """The name, and the name with -2, -3 ... behind it."""
    yield stem
    yield from (f"{stem}-{number}" for number in itertools.count(2))
