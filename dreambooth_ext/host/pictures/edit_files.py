"""The files of edited pictures: originals and masks that a set keeps, and what a kill left half done."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ...core.data import folder_scan, mask_files
from ...core.pictures import edit_history
from ...core.pictures.edit import Edit, Size
from ...core.pictures.edit_history import History, Mask, Step
from ...core.system import files
from ..errors import Refusal
from . import image_decoding

UNFINISHED = "unfinished"  # in edit_history.FOLDER: names the picture whose files are being replaced
PAINTED = "-masklabel.png"  # the end of a painted mask's name, as OneTrainer has it
CONDITION = "-condlabel"  # OneTrainer's other picture beside a picture: goes along with it, but is no mask


def link_or_copy(source: Path, target: Path) -> None:
    """Files of sets are only ever replaced, so two names may share one."""
    try:
        os.link(source, target)
    except OSError:  # FAT and some network disks know no links
        shutil.copy2(source, target)


def mend(folder: Path) -> None:
    """End what a kill cut short between a history and its files: the picture that is there says which step it is."""
    mark = folder / edit_history.FOLDER / UNFINISHED
    if not mark.exists():
        return
    histories = edit_history.read(folder)
    path = folder / mark.read_text(encoding="utf-8")
    history = histories.get(path.name)
    if history and path.exists():
        history = history.found_at(files.sha256_of(path)) or history
        edit_history.write(folder, {**histories, path.name: history})
        place_masks(path, history)
    mark.unlink(missing_ok=True)
    for place in (folder, folder / edit_history.FOLDER):
        files.remove_unfinished(place)


def history_of(path: Path, histories: Mapping[str, History], keep: bool = False) -> History:
    """The picture's history, a new one if somebody replaced the picture; with the masks that are beside it now.

    keep: copy masks that others put there into the history. Raises a Refusal (422) for a picture that cannot be read.
    """
    digest = files.sha256_of(path)
    known = histories.get(path.name)
    history = known.found_at(digest) if known else None
    if history is None:
        history = History(_original_name(path, histories), _size(path), (Step(Edit(), digest),))
    now = history.now
    beside = {name: mask_file(path.with_name(name)) for name in masks_beside(path)}
    if beside == {name: mask.shown for name, mask in now.masks.items()}:
        return history
    masks = {
        name: now.masks[name] if name in now.masks and now.masks[name].shown == file else Mask(file, now.edit, file)
        for name, file in beside.items()
    }
    if keep:
        for name, file in beside.items():
            keep_mask(path.parent, path.with_name(name), file)
    step = dataclasses.replace(now, masks=masks)
    return history.done(step) if now.masks else history.with_step(step)


def _size(path: Path) -> Size:
    about = image_decoding.look(path)
    if about["problem"] or not about["width"]:
        raise Refusal(422, "editing.unreadable", "picture", file=path.name, error=about["problem"])
    return about["width"], about["height"]


# --- originals


def original(path: Path, history: History) -> Path:
    """The file with the picture's bytes as they came."""
    kept = path.parent / edit_history.FOLDER / edit_history.ORIGINALS / history.original
    return kept if kept.exists() else path


def keep_original(path: Path, history: History) -> None:
    kept = path.parent / edit_history.FOLDER / edit_history.ORIGINALS / history.original
    if not kept.exists():
        with files.replacing(kept) as temporary:
            shutil.copyfile(path, temporary)  # no link: other programs may write into what is seen


def _original_name(path: Path, histories: Mapping[str, History]) -> str:
    """The picture's name, or one like it if another original is kept under that."""
    taken = edit_history.used_files(histories)[0]
    folder = path.parent / edit_history.FOLDER / edit_history.ORIGINALS
    names = itertools.chain([path.name], (f"{path.stem} {number}{path.suffix}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken and not (folder / name).exists())


def free_name(path: Path) -> Path:
    """`a crop 2.jpg` for `a.jpg` and for its crops, or the next that is free, also as a caption's name."""
    before, _, number = path.stem.rpartition(" crop ")
    stem = before if before and number.isdecimal() else path.stem
    taken = {item.name.rpartition(".")[0].lower() for item in os.scandir(path.parent)}
    free = next(name for name in (f"{stem} crop {count}" for count in itertools.count(2)) if name.lower() not in taken)
    return path.with_name(f"{free}{path.suffix}")


# --- masks


def masks_beside(path: Path, only_masks: bool = False) -> list[str]:
    """The names of the pictures that belong to this one, the painted mask first."""
    others = () if only_masks else folder_scan.CONDITIONS
    return mask_files.beside(path, (*folder_scan.MASKS, *others))


def mask_beside(path: Path) -> Path | None:
    """The file of a picture's mask; None if it has none."""
    names = masks_beside(path, only_masks=True)
    return path.with_name(names[0]) if names else None


def mask_file(path: Path) -> str:
    """The name under which a mask is kept: by its content."""
    return f"{files.sha256_of(path)[:32]}{path.suffix.lower()}"


def kept_mask(folder: Path, name: str) -> Path:
    return folder / edit_history.FOLDER / edit_history.MASKS / name


def keep_mask(folder: Path, source: Path, name: str) -> None:
    if not (kept := kept_mask(folder, name)).exists():
        with files.replacing(kept) as temporary:
            shutil.copyfile(source, temporary)


def place_masks(path: Path, history: History) -> None:
    """Make the visible masks those of the present step; a mask that no step knows is somebody else's, and stays."""
    known = {mask.shown for step in history.steps for mask in step.masks.values()}
    for name in masks_beside(path):
        if name not in history.now.masks and mask_file(path.with_name(name)) in known:
            path.with_name(name).unlink()
    for name, mask in history.now.masks.items():
        target = path.with_name(name)
        if not target.exists() or mask_file(target) != mask.shown:
            with files.replacing(target) as temporary:
                shutil.copyfile(kept_mask(path.parent, mask.shown), temporary)


# --- temporary and spare files


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """A folder for temporary files beside the pictures, so that they can be renamed into place."""
    place = folder / edit_history.FOLDER / f"{files.TEMPORARY}{os.getpid()}-{threading.get_ident()}"
    place.mkdir(parents=True, exist_ok=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def sweep(folder: Path, histories: Mapping[str, History]) -> None:
    """Delete kept files that no step needs any more: of pictures that were deleted, of steps that were dropped."""
    needed = edit_history.used_files(histories)
    for part, names in zip((edit_history.ORIGINALS, edit_history.MASKS), needed, strict=True):
        place = folder / edit_history.FOLDER / part
        for path in place.iterdir() if place.is_dir() else ():
            if path.name not in names:
                path.unlink(missing_ok=True)
