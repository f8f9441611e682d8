"""Edits of a set's pictures that can be undone: turned, straightened, cropped, masked; originals are never touched.

What was done, and the originals, are kept in the set (`core/pictures/edit_history.py`); the set's visible files are
what came of it, and all that training reads. Pixels are worked on by the picture worker (`engine/pictures/editing.py`).

A kill at any instant leaves either the picture from before or the one from after, and the original. The order that
gives this: the original is kept, the new files are made under temporary names, the history is written, and then the
visible files are renamed into place. `edit_files.mend` ends what was cut short between the last two.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.data import folder_scan
from ...core.pictures import edit_history, mask_kinds
from ...core.pictures.edit import Edit
from ...core.pictures.edit_history import History, Mask, Step
from ...core.system import files
from ..errors import Refusal
from . import edit_files, image_decoding
from .edit_files import CONDITION, PAINTED, UNFINISHED, history_of
from .picture_worker import Unreadable
from .uploads import LARGEST, MOST_PICTURES, SPARE, PictureSets, check_shown, check_unused, stamp_of

Ask = Callable[..., Any]  # of the picture worker: (task, **values) -> answer
PATIENCE = 180.0  # seconds for a picture of 178 million pixels


@dataclass(frozen=True)
class _Made:
    """Files that the worker made for a step; masks: {name in the set's kept masks: where it is now}."""

    picture: Path
    step: Step
    masks: Mapping[str, Path]


class PictureEdits:
    """Edits pictures of `sets`; every method may be called from any thread.

    `stamp`: that of the picture which the page shows; another one of that name is left alone (409). Answers: `_told`.
    """

    def __init__(self, sets: PictureSets, ask: Ask):
        self.sets, self._worker = sets, ask
        self._editing = threading.Lock()

    def ask(self, task: str, **values: Any) -> None:
        """Have the worker write files. Raises a Refusal for pictures that it cannot read."""
        try:
            self._worker(task, keep=False, patience=PATIENCE, **values)
        except Unreadable as error:
            raise Refusal.of(422, error.problem, "picture") from None

    # --- looking ---

    def show(self, name: str, picture: str) -> dict[str, Any]:
        path = self.sets.picture(name, picture)
        with self._editing:
            self.sets.settle(path.parent)
            return _told(path, history_of(path, edit_history.read(path.parent)))

    def original(self, name: str, picture: str) -> Path:
        """The file of a picture as it came."""
        path = self.sets.picture(name, picture)
        return edit_files.original(path, history_of(path, edit_history.read(path.parent)))

    def mask(self, name: str, picture: str) -> Path:
        """The file of a picture's mask. Raises a Refusal (404)."""
        path = self.sets.picture(name, picture)
        names = edit_files.masks_beside(path, only_masks=True)
        if not names:
            raise Refusal(404, "editing.no_mask", "name", file=path.name)
        return path.with_name(names[0])

    def subject(self, name: str, picture: str) -> dict[str, Any]:
        """Where the picture doctor sees faces, the largest first, and what it would keep: boxes in pixels."""
        path = self.sets.picture(name, picture)
        try:
            found = self._worker("look", path)
        except Unreadable:
            return {"faces": [], "crop": None}
        return {"faces": found["faces"], "crop": found["crop"]}

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
            if sum(folder_scan.is_picture(item.name) for item in os.scandir(path.parent)) >= MOST_PICTURES:
                raise Refusal(413, "upload.set_full", "set", most=MOST_PICTURES)
            new = edit_files.free_name(path)
            masks = {new.stem + mask[len(path.stem) :]: known for mask, known in history.now.masks.items()}
            with self._made(path, history, asked, masks) as made:
                edit_files.keep_original(path, history)
                start = History(history.original, history.size, (made.step,))
                self._commit(new, {path.name: history, **histories}, start, made)
            caption = path.with_suffix(".txt")
            if caption.is_file() and not new.with_suffix(".txt").exists():
                edit_files.link_or_copy(caption, new.with_suffix(".txt"))
            return _told(new, start)

    def put_mask(self, name: str, picture: str, stamp: str, data: bytes) -> dict[str, Any]:
        """Keep a painted mask, scaled to the picture, as `<stem>-masklabel.png`; white counts, black does not."""
        if len(data) > LARGEST:
            raise Refusal(413, "upload.large_picture", "mask", file=PAINTED, most=files.human_size(LARGEST))
        image_decoding.check_picture(PAINTED, data)
        with self._changing(name, picture, stamp) as (path, histories, history):
            with edit_files.workplace(path.parent) as place:
                painted = place / "painted.png"
                painted.write_bytes(data)
                kept = self._kept(path, history, painted)
            return self._masked(path, histories, history, kept)

    def make_mask(
        self, name: str, picture: str, stamp: str, by: str, box: Sequence[float] | None = None
    ) -> dict[str, Any]:
        """Make a mask (`core/pictures/mask_kinds.py`) and keep it as if it was painted. Raises UserError, Refusal."""
        kind, model = mask_kinds.kind_of(by)
        with self._changing(name, picture, stamp) as (path, histories, history):
            with edit_files.workplace(path.parent) as place:
                made = place / "made.png"
                self.ask("make_mask", path=path, target=str(made), by=kind, box=box, model=model)
                kept = self._kept(path, history, made)
            return self._masked(path, histories, history, kept)

    def delete_mask(self, name: str, picture: str, stamp: str) -> dict[str, Any]:
        """Take a picture's masks away; that can be undone."""
        with self._changing(name, picture, stamp) as (path, histories, history):
            others = _without_masks(history.now)
            if others == history.now.masks:
                return _told(path, history)
            return self._step(path, histories, history, history.now.edit, others)

    # --- how ---

    def _kept(self, path: Path, history: History, painted: Path) -> str:
        """The name under which a mask is kept that was painted for the picture as it is now."""
        scaled = painted.with_name("mask.png")
        size = history.now.edit.size(history.size)
        self.ask("mask", source=str(painted), size=list(size), target=str(scaled))
        kept = edit_files.mask_file(scaled)
        edit_files.keep_mask(path.parent, scaled, kept)
        return kept

    def _masked(self, path: Path, histories: dict[str, History], history: History, kept: str) -> dict[str, Any]:
        edit, others = history.now.edit, _without_masks(history.now)
        masks = {path.stem + PAINTED: Mask(kept, edit, kept), **others}
        return self._step(path, histories, history, edit, masks)

    @contextmanager
    def _changing(self, name: str, picture: str, stamp: str) -> Iterator[tuple[Path, dict[str, History], History]]:
        """The picture's file, all histories of its set, and its own, while nobody else edits. Raises a Refusal."""
        path = self.sets.picture(name, picture)
        with self._editing:
            self.sets.settle(path.parent)
            check_unused(path.parent)
            check_shown(path, stamp)
            if files.free_bytes(path.parent) < 4 * path.stat().st_size + SPARE:
                raise Refusal(507, "upload.disk_full", folder=str(path.parent))
            files.remove_unfinished(path.parent / edit_history.FOLDER)  # of a process that was killed
            histories = edit_history.read(path.parent)
            yield path, histories, history_of(path, histories, keep=True)

    def _step(
        self, path: Path, histories: dict[str, History], history: History, edit: Edit, masks: Mapping[str, Mask]
    ) -> dict[str, Any]:
        with self._made(path, history, edit, masks) as made:
            history = history.done(made.step)
            self._commit(path, histories, history, made)
        return _told(path, history)

    @contextmanager
    def _made(self, path: Path, history: History, edit: Edit, masks: Mapping[str, Mask]) -> Iterator[_Made]:
        """What this edit makes of the original and of masks, under temporary names, which are gone afterwards."""
        source = edit_files.original(path, history)
        with edit_files.workplace(path.parent) as place:
            target = place / f"picture{path.suffix}"
            moved = {name: mask for name, mask in masks.items() if mask.frame != edit}
            places = {name: place / f"{number}.png" for number, name in enumerate(moved)}
            wanted = [
                {"source": str(edit_files.kept_mask(path.parent, mask.painted)), "frame": mask.frame.as_dict(),
                 "target": str(places[name])}
                for name, mask in moved.items()
            ]  # fmt: skip
            if edit.is_nothing:
                shutil.copyfile(source, target)  # to the byte
            else:
                self.ask("render", source=str(source), edit=edit.as_dict(), target=str(target))
            if wanted:
                self.ask("carry", original=list(history.size), edit=edit.as_dict(), masks=wanted)
            shown = {name: edit_files.mask_file(file) for name, file in places.items()}
            carried = {
                name: Mask(mask.painted, mask.frame, shown.get(name, mask.painted)) for name, mask in masks.items()
            }
            files.flush_to_disk(target)
            yield _Made(target, Step(edit, files.sha256_of(target), carried), {shown[n]: places[n] for n in places})

    def _commit(self, path: Path, histories: dict[str, History], history: History, made: _Made) -> None:
        """Write the history, then put the picture and its masks in place."""
        folder = path.parent
        if path.exists():  # else it is a new one, of an original that is kept already
            edit_files.keep_original(path, history)
        for name, place in made.masks.items():
            edit_files.keep_mask(folder, place, name)
        known = {name: of for name, of in histories.items() if (folder / name).exists()}
        known[path.name] = history
        with self.sets.changing:
            check_unused(folder)
            mark = folder / edit_history.FOLDER / UNFINISHED
            files.write_text(mark, path.name)
            edit_history.write(folder, known)
            files.replace(made.picture, path)
            edit_files.place_masks(path, history)
            files.flush_folder(folder)
            mark.unlink()
        edit_files.sweep(folder, known)


def _without_masks(step: Step) -> dict[str, Mask]:
    return {name: mask for name, mask in step.masks.items() if CONDITION in name}


def _told(path: Path, history: History) -> dict[str, Any]:
    """What the page asks about a picture: `size` and `box` in pixels, how many steps can be undone and redone."""
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
        "mask": next(iter(edit_files.masks_beside(path, only_masks=True)), None),
    }
