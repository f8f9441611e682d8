"""Changes a set's captions all at once, and takes that back again. Folders of this machine are only read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.captions import tag_edits
from ...core.captions.tag_edits import Edit
from ...core.config.run_config import RunConfig
from ...core.data import captions, folder_scan
from ...core.errors import UserError
from ..errors import Refusal
from ..hosts import path_policy
from ..pictures.uploads import LARGEST_CAPTION, USED, PictureSets, reading, stamp_of
from . import proposals
from .caption_history import History

if TYPE_CHECKING:
    from ..hosts.host import Host

ENDING = ".txt"
MOST_TAGS = 1000  # in an answer


class CaptionEditing:
    """Lists and changes captions; may be called from any thread."""

    def __init__(self, host: Host, sets: PictureSets):
        self.host, self.sets = host, sets

    # --- what there is

    def list(self, name: str | None, folder: str | None, separator: str = tag_edits.SEPARATOR) -> dict[str, Any]:
        """All pictures of a set, or of a folder of this machine, with their captions, tags by frequency, and what can
        be undone. Raises a Refusal."""
        place = self.sets.path(name) if name else self._folder(folder or "")
        history = History(place) if name else None
        texts = {key: text for key, (_, text) in self._read(place).items()}
        known = tag_edits.frequencies(texts, separator)
        return {
            "set": place.name if name else "",
            "folder": str(place),
            "used": bool(name) and (place / USED).exists(),
            "pictures": [{"name": key, "caption": text, "stamp": _stamp(place / key)} for key, text in texts.items()],
            "tags": [list(one) for one in known[:MOST_TAGS]],
            "more_tags": max(0, len(known) - MOST_TAGS),
            "undo": history.undoable if history else None,
            "redo": history.redoable if history else None,
            "proposals": proposals.read(place) if name else None,
        }

    def _folder(self, folder: str) -> Path:
        if not folder.strip():
            raise UserError("captions.no_place", "set")
        path_policy.check_paths(RunConfig(instance_data_dir=folder), self.host)
        return Path(os.path.abspath(os.path.expanduser(folder)))

    def _read(self, place: Path) -> dict[str, tuple[Path, str]]:
        """Each picture's caption file, which may be missing, and its text. An unreadable one counts as empty, and is
        never written over (`_write`)."""
        with reading(place):
            found = list(folder_scan.find_pictures(place))
        texts = {}
        for one in found:
            file = one.caption_file(ENDING)
            path = Path(file) if file else one.path.with_suffix(ENDING)
            try:
                text = "\n".join(captions.read_lines(path)) if file else ""
            except (OSError, UnicodeDecodeError):
                text = ""
            texts[one.path.relative_to(place).as_posix()] = (path, text)
        return texts

    # --- changes

    def apply(
        self, name: str, asked: Mapping[str, Any], names: Sequence[str] | None = None, preview: bool = False
    ) -> dict[str, Any]:
        """Change the captions of these pictures, or of all; {"changed": [{"name", "before", "after"}], "undo", "redo"}.

        preview: only tell what would change. Raises UserError and a Refusal; then nothing has changed.
        """
        if preview:
            place = self.sets.path(name)
            return self._apply(place, asked, names, None)
        with self.sets.held(name) as place:
            return self._apply(place, asked, names, History(place))

    def _apply(
        self, place: Path, asked: Mapping[str, Any], names: Sequence[str] | None, history: History | None
    ) -> dict[str, Any]:
        known = self._read(place)
        texts = {key: text for key, (_, text) in known.items()}
        chosen = texts if names is None else {key: texts[key] for key in names if key in texts}
        edit = proposals.edit(place, asked, chosen) if asked.get("kind") == "proposals" else Edit.from_dict(asked)
        after = tag_edits.changed(chosen, tag_edits.apply(edit, chosen))
        if any(len(text.encode()) > LARGEST_CAPTION for text in after.values()):
            raise Refusal(413, "upload.long_caption", "caption", most=f"{LARGEST_CAPTION // 1024} KB")
        if history is not None and after:
            self._check_readable(known, after)
            history.add(edit, {key: texts[key] for key in after}, after)
            self._write(known, after)
        changed = [{"name": key, "before": texts[key], "after": text} for key, text in after.items()]
        return {"changed": changed, **_steps(history)}

    def undo(self, name: str, back: bool = True) -> dict[str, Any]:
        """Take the last change back, or do the last one that was taken back again.

        {"changed", "left", "undo", "redo"}; left: pictures whose captions were changed otherwise since. Raises a
        Refusal (409) if there is nothing to take back.
        """
        with self.sets.held(name) as place:
            history = History(place)
            if not (history.undoable if back else history.redoable):
                raise Refusal(409, "captions.nothing_to_undo" if back else "captions.nothing_to_redo", "set")
            expected, due = history.moved(back)
            known = self._read(place)
            texts = {key: text for key, (_, text) in known.items()}
            after = {key: text for key, text in due.items() if texts.get(key) == expected.get(key, "") != text}
            left = [
                key for key, text in due.items() if key in texts and texts[key] not in (text, expected.get(key, ""))
            ]
            self._check_readable(known, after)
            self._write(known, after)
            history.write()
            changed = [{"name": key, "before": texts[key], "after": text} for key, text in after.items()]
            return {"changed": changed, "left": left, **_steps(history)}

    def _check_readable(self, known: Mapping[str, tuple[Path, str]], after: Mapping[str, str]) -> None:
        """Raise a Refusal if a file that is to be replaced has a text which nobody could read."""
        for key in after:
            path, text = known[key]
            if not text and path.is_file() and path.stat().st_size:
                try:
                    captions.read_lines(path)
                except (OSError, UnicodeDecodeError):
                    raise Refusal(422, "captions.unreadable_kept", "caption", file=path.name) from None

    def _write(self, known: Mapping[str, tuple[Path, str]], after: Mapping[str, str]) -> None:
        for key, text in after.items():
            self.sets.write_text(known[key][0], text)


def _steps(history: History | None) -> dict[str, Any]:
    return {"undo": history.undoable, "redo": history.redoable} if history else {}


def _stamp(path: Path) -> str:
    try:
        return stamp_of(path)
    except OSError:
        return ""
