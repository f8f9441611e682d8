"""Edits of a set's pictures that can be undone: turned, straightened, cropped, masked; originals are never touched.

What was done, and the originals, are kept in the set (`core/pictures/edit_history.py`); the set's visible files are what
came of it, and all that training reads. Pixels are worked on by the picture worker (`engine/pictures/editing.py`).

A kill at any instant leaves either the picture from before or the one from after, and the original. The order that
gives this: the original is kept, the new files are made under temporary names, the history is written, and then the
visible files are renamed into place. `mend` ends what was cut short between the two last.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.data import folder_scan
from ...core.pictures import edit_history
from ...core.pictures.edit import Edit, Size
from ...core.pictures.edit_history import History, Mask, Step
from ...core.system import files
from ..errors import Refusal
from . import image_decoding
from .uploads import LARGEST, MOST_PICTURES, SPARE, PictureSets, check_shown, check_unused, link_or_copy, stamp_of

UNFINISHED = "unfinished"  # in edit_history.FOLDER: names the picture whose files are being replaced
PAINTED = "-masklabel.png"  # the end of a painted mask's name, as OneTrainer has it
Ask = Callable[..., Any]  # of the picture worker: (task, **values)


@dataclass(frozen=True)
class _Made:
    """Files that the worker made for the next step; masks: by the name in the set, {file in MASKS: where it is now}."""

    picture: Path
    step: Step
    masks: Mapping[str, Path]


class PictureEdits:
    """Edits pictures of `sets`; every method may be called from any thread. `ask`: see `Ask`.

    `stamp`: that of the picture which the page shows; another one of that name is left alone (409).
    """

    def __init__(self, sets: PictureSets, ask: Ask):
        self.sets, self.ask = sets, ask
        self._editing = threading.Lock()

    # --- looking ---

    def show(self, name: str, picture: str) -> dict[str, Any]:
        """One picture: its `size`, its original's, the `edit`, and whether there is something to undo or redo."""
        path = self.sets.picture(name, picture)
        with self._editing:
            mend(path.parent)
            return _told(path, _history_of(path, edit_history.read(path.parent)))

    def edited(self, name: str) -> list[str]:
        """The names of a set's pictures that are not as they came."""
        folder = self.sets.path(name)
        with self._editing:
            mend(folder)
            known = edit_history.read(folder)
        return [picture for picture, history in known.items() if history.is_edited and (folder / picture).exists()]

    def original(self, name: str, picture: str) -> Path:
        """The file of a picture as it came."""
        path = self.sets.picture(name, picture)
        return _original(path, _history_of(path, edit_history.read(path.parent)))

    def mask(self, name: str, picture: str) -> Path:
        """The file of a picture's painted mask. Raises a Refusal (404)."""
        path = self.sets.picture(name, picture)
        names = _masks_beside(path)
        if not names:
            raise Refusal(404, "editing.no_mask", "name", file=path.name)
        return path.with_name(names[0])

    # --- changing ---

    def change(self, name: str, picture: str, stamp: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Turn, straighten and crop the original so, instead of what was done before; masks go along."""
        asked = Edit.from_dict(values)
        with self._changing(name, picture, stamp) as (path, histories, history):
            edit = asked.whole(history.size)
            edit.check(history.size)
            if edit == history.now.edit:
                return _told(path, history)
            return self._step(path, histories, history, edit, history.now.masks)

    def go(self, name: str, picture: str, stamp: str, by: int) -> dict[str, Any]:
        """Undo (by -1) or redo (by 1) a step. Raises a Refusal (409) if there is none."""
        with self._changing(name, picture, stamp) as (path, histories, history):
            moved = history.moved(by)
            if moved is None:
                raise Refusal(409, "editing.nothing_to_undo" if by < 0 else "editing.nothing_to_redo", "picture")
            with self._made(path, moved, moved.now.edit, moved.now.masks) as made:
                self._commit(path, histories, moved.with_step(made.step), made)
            return _told(path, moved)

    def restore(self, name: str, picture: str, stamp: str) -> dict[str, Any]:
        """Back to the picture as it came, with the mask that it came with; that can be undone, too."""
        with self._changing(name, picture, stamp) as (path, histories, history):
            first = history.steps[0]
            if not history.is_edited:
                return _told(path, history)
            return self._step(path, histories, history, first.edit, first.masks)

    def crop_more(self, name: str, picture: str, stamp: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """One more crop of the same original, as a picture of its own, with the caption and mask of this one."""
        asked = Edit.from_dict(values)
        with self._changing(name, picture, stamp) as (path, histories, history):
            asked.check(history.size)
            if sum(1 for item in os.scandir(path.parent) if folder_scan.is_picture(item.name)) >= MOST_PICTURES:
                raise Refusal(413, "upload.set_full", "set", most=MOST_PICTURES)
            new = _free_name(path)
            masks = {_mask_name(path, new, mask): known for mask, known in history.now.masks.items()}
            start = dataclasses.replace(history.now, edit=history.now.edit, masks=masks)
            other = History(history.original, history.size, (start,))
            with self._made(path, other, asked, masks, force=True) as made:
                self._keep_original(path, history)
                self._commit(new, histories, History(history.original, history.size, (made.step,)), made, path)
            caption = path.with_suffix(".txt")
            if caption.is_file() and not new.with_suffix(".txt").exists():
                link_or_copy(caption, new.with_suffix(".txt"))
            return _told(new, _history_of(new, edit_history.read(new.parent)))

    def put_mask(self, name: str, picture: str, stamp: str, data: bytes) -> dict[str, Any]:
        """Keep a painted mask, scaled to the picture, as `<stem>-masklabel.png`; white counts, black does not."""
        if len(data) > LARGEST:
            raise Refusal(413, "upload.large_picture", "mask", file=PAINTED, most=files.human_size(LARGEST))
        image_decoding.check_picture(PAINTED, data)
        with self._changing(name, picture, stamp) as (path, histories, history):
            with _workplace(path.parent) as place:
                (place / "painted.png").write_bytes(data)
                size = history.now.edit.size(history.size)
                self.ask("mask", source=str(place / "painted.png"), size=list(size), target=str(place / "mask.png"))
                kept = _named(place / "mask.png")
                mask_file = path.stem + PAINTED
                masks = {**history.now.masks, mask_file: Mask(kept, history.now.edit, kept)}
                _keep_mask(path.parent, place / "mask.png", kept)
            return self._step(path, histories, history, history.now.edit, masks)

    def delete_mask(self, name: str, picture: str, stamp: str) -> dict[str, Any]:
        """Take a picture's masks away; that can be undone."""
        with self._changing(name, picture, stamp) as (path, histories, history):
            if not history.now.masks:
                return _told(path, history)
            return self._step(path, histories, history, history.now.edit, {})

    # --- how ---

    @contextmanager
    def _changing(self, name: str, picture: str, stamp: str) -> Iterator[tuple[Path, dict[str, History], History]]:
        """The picture's file, all histories of its set, and its own, while nobody else edits. Raises a Refusal."""
        path = self.sets.picture(name, picture)
        with self._editing:
            mend(path.parent)
            check_unused(path.parent)
            check_shown(path, stamp)
            if files.free_bytes(path.parent) < 4 * path.stat().st_size + SPARE:
                raise Refusal(507, "upload.disk_full", folder=str(path.parent))
            histories = edit_history.read(path.parent)
            yield path, histories, _history_of(path, histories, keep=True)

    def _step(
        self, path: Path, histories: dict[str, History], history: History, edit: Edit, masks: Mapping[str, Mask]
    ) -> dict[str, Any]:
        with self._made(path, history, edit, masks) as made:
            self._commit(path, histories, history.done(made.step), made)
        return _told(path, history.done(made.step))

    @contextmanager
    def _made(
        self, path: Path, history: History, edit: Edit, masks: Mapping[str, Mask], force: bool = False
    ) -> Iterator[_Made]:
        """What this edit makes of the original and its masks, under temporary names, which are gone afterwards."""
        source = _original(path, history)
        with _workplace(path.parent) as place:
            target = place / f"picture{path.suffix}"
            wanted = [
                {"source": str(_kept_mask(path.parent, mask.painted)), "frame": mask.frame.as_dict(),
                 "target": str(place / f"{number}.png")}
                for number, mask in enumerate(masks.values())
            ]  # fmt: skip
            if edit.is_nothing and not force:
                shutil.copyfile(source, target)  # to the byte
                if wanted:
                    self.ask("carry", edit=edit.as_dict(), original=list(history.size), masks=wanted)
            else:
                self.ask("render", source=str(source), edit=edit.as_dict(), target=str(target), masks=wanted)
            carried, kept = {}, {}
            for (mask_file, mask), about in zip(masks.items(), wanted, strict=True):
                known = _named(Path(about["target"]))
                carried[mask_file] = Mask(mask.painted, mask.frame, mask.painted if mask.frame == edit else known)
                if mask.frame != edit:
                    kept[known] = Path(about["target"])
            files.flush_to_disk(target)
            yield _Made(target, Step(edit, files.sha256_of(target), carried), kept)

    def _keep_original(self, path: Path, history: History) -> None:
        """Keep the picture's bytes as they came, if that has not been done."""
        kept = path.parent / edit_history.FOLDER / edit_history.ORIGINALS / history.original
        if not kept.exists():
            with files.replacing(kept) as temporary:
                link_or_copy(path, temporary)

    def _commit(
        self, path: Path, histories: dict[str, History], history: History, made: _Made, source: Path | None = None
    ) -> None:
        """Write the history, then put the picture and its masks in place. source: a new picture's, whose original is
        kept already."""
        folder = path.parent
        if source is None:
            self._keep_original(path, history)
        for name, place in made.masks.items():
            _keep_mask(folder, place, name)
        own = folder / edit_history.FOLDER
        there = {known: of for known, of in histories.items() if (folder / known).exists()}
        with self.sets.changing:
            check_unused(folder)
            files.write_text(own / UNFINISHED, path.name)
            edit_history.write(folder, {**there, path.name: history})
            files.replace(made.picture, path)
            _place_masks(path, history)
            files.flush_folder(folder)
            (own / UNFINISHED).unlink()
        _sweep(own, {**there, path.name: history})


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
        _place_masks(path, history)
    mark.unlink(missing_ok=True)
    for left in (folder / edit_history.FOLDER).glob(f"{files.TEMPORARY}*"):
        shutil.rmtree(left, ignore_errors=True)


def _told(path: Path, history: History) -> dict[str, Any]:
    edit = history.now.edit
    return {
        "set": path.parent.name,
        "name": path.name,
        "stamp": stamp_of(path),
        "size": list(edit.size(history.size)),
        "original": list(history.size),
        "edit": edit.as_dict(),
        "box": list(edit.box(history.size)),
        "undo": history.at,
        "redo": len(history.steps) - 1 - history.at,
        "edited": history.is_edited,
        "mask": next(iter(_masks_beside(path)), None),
    }


def _history_of(path: Path, histories: Mapping[str, History], keep: bool = False) -> History:
    """The picture's history, a new one if somebody replaced the picture; with the masks that are beside it now.

    keep: copy masks that others put there into the history. Raises a Refusal (422) for a picture that cannot be read.
    """
    digest = files.sha256_of(path)
    known = histories.get(path.name)
    history = known.found_at(digest) if known else None
    if history is None:
        history = History(_original_name(path, histories), _size(path), (Step(Edit(), digest),))
    now = history.now
    beside = {name: _named(path.with_name(name)) for name in _masks_beside(path)}
    if beside == {name: mask.shown for name, mask in now.masks.items()}:
        return history
    masks = {
        name: now.masks[name] if name in now.masks and now.masks[name].shown == file else Mask(file, now.edit, file)
        for name, file in beside.items()
    }
    if keep:
        for name, file in beside.items():
            _keep_mask(path.parent, path.with_name(name), file, copy=True)
    step = dataclasses.replace(now, masks=masks)
    return history.done(step) if now.masks else history.with_step(step)


def _size(path: Path) -> Size:
    about = image_decoding.look(path)
    if about["problem"] or not about["width"]:
        raise Refusal(422, "editing.unreadable", "picture", file=path.name, error=about["problem"])
    return about["width"], about["height"]


def _original(path: Path, history: History) -> Path:
    kept = path.parent / edit_history.FOLDER / edit_history.ORIGINALS / history.original
    return kept if kept.exists() else path


def _original_name(path: Path, histories: Mapping[str, History]) -> str:
    """The picture's name, or one like it if another original is kept under that."""
    taken = edit_history.used_files(histories)[0]
    folder = path.parent / edit_history.FOLDER / edit_history.ORIGINALS
    names = itertools.chain([path.name], (f"{path.stem} {number}{path.suffix}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken and not (folder / name).exists())


def _free_name(path: Path) -> Path:
    """ "a crop 2.jpg" for "a.jpg" and for its crops, or the next that is free, also as a caption's name."""
    stem = path.stem.rpartition(" crop ")[0] if path.stem.rpartition(" crop ")[2].isdecimal() else path.stem
    taken = {item.name.rpartition(".")[0] for item in os.scandir(path.parent)}
    number = next(number for number in itertools.count(2) if f"{stem} crop {number}" not in taken)
    return path.with_name(f"{stem} crop {number}{path.suffix}")


def _mask_name(path: Path, new: Path, mask: str) -> str:
    return new.stem + mask[len(path.stem) :]


def _masks_beside(path: Path) -> list[str]:
    """The names of the picture's masks in its folder, the painted one first."""
    names = [path.stem + end + ending for end in folder_scan.MASKS for ending in (".png", *folder_scan.EXTENSIONS)]
    return [name for name in dict.fromkeys(names) if path.with_name(name).is_file()]


def _named(path: Path) -> str:
    """The name of a mask in MASKS: by its content."""
    return f"{files.sha256_of(path)[:32]}{path.suffix.lower()}"


def _kept_mask(folder: Path, name: str) -> Path:
    return folder / edit_history.FOLDER / edit_history.MASKS / name


def _keep_mask(folder: Path, source: Path, name: str, copy: bool = False) -> None:
    kept = _kept_mask(folder, name)
    if kept.exists():
        return
    with files.replacing(kept) as temporary:
        if copy:
            shutil.copyfile(source, temporary)
        else:
            files.replace(source, temporary)


def _place_masks(path: Path, history: History) -> None:
    """Make the visible masks those of the present step; a mask that no step knows is somebody else's, and stays."""
    known = {mask.shown for step in history.steps for mask in step.masks.values()}
    for name in _masks_beside(path):
        if name not in history.now.masks and _named(path.with_name(name)) in known:
            path.with_name(name).unlink()
    for name, mask in history.now.masks.items():
        target = path.with_name(name)
        if not target.exists() or _named(target) != mask.shown:
            with files.replacing(target) as temporary:
                link_or_copy(_kept_mask(path.parent, mask.shown), temporary)


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A folder for temporary files beside the pictures, so that they can be renamed into place."""
    place = folder / edit_history.FOLDER / f"{files.TEMPORARY}{os.getpid()}-{threading.get_ident()}"
    place.mkdir(parents=True, exist_ok=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _sweep(own: Path, histories: Mapping[str, History]) -> None:
    """Delete kept files that no step needs any more: of pictures that were deleted, of steps that were dropped."""
    for folder, needed in zip((edit_history.ORIGINALS, edit_history.MASKS), edit_history.used_files(histories)):
        if (own / folder).is_dir():
            for path in (own / folder).iterdir():
                if path.name not in needed:
                    path.unlink(missing_ok=True)
