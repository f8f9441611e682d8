"""The pictures and captions that a run trains on, recorded when it is queued: later changes are reported, not trained
on.

The run's folder holds them in `pictures.jsonl`, one line per picture with its captions, size, time and digest, and from
its first start the class pictures in `class_pictures.jsonl`. A run trains on what is recorded: pictures added later are
left out, captions keep the recorded words. A missing or altered picture stops it, until the user restores it or lets
the run take everything as it is now (`forget`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..config.parsing import some
from ..errors import Problem, UserError
from ..system import files
from .entry import Entry

FILES = {False: "pictures.jsonl", True: "class_pictures.jsonl"}  # by whether they are class pictures
HASHED = 512 * 2**20  # bytes; of larger sets only sizes and times are compared
Key = tuple[str, int]  # path, and the concept's number: a picture may belong to several


@dataclass(frozen=True)
class Listed:
    """A recorded picture. digest: sha256 in hex, or "" if only size and time (in nanoseconds) are known. mask: the path
    of its mask, if it has one, with its digest."""

    path: str
    concept: int
    is_class: bool
    captions: tuple[str, ...]
    is_held: bool
    size: int
    modified: int
    digest: str
    mask: str = ""
    mask_digest: str = ""

    @property
    def key(self) -> Key:
        return self.path, self.concept

    def is_altered(self) -> bool:
        """Whether the file's content has changed since. A copy with another time counts as the same."""
        path = Path(self.path)
        try:
            if self.mask_digest and files.sha256_of(Path(self.mask)) != self.mask_digest:
                return True
            stat = path.stat()
            if (stat.st_size, stat.st_mtime_ns) == (self.size, self.modified):
                return False
            return stat.st_size != self.size or not self.digest or files.sha256_of(path) != self.digest
        except OSError:
            return True

    def entry(self, now: Entry | None) -> Entry | None:
        """The entry to train on, None if the picture is missing. `now`: the picture as found today, None if the
        folder's list lacks it; only part of a class folder is listed, so a class picture is then looked up by its file.
        """
        if now is None and self.is_class and Path(self.path).is_file():
            now = Entry(Path(self.path), "", self.concept, is_class=True)
        return now and dataclasses.replace(
            now, caption=self.captions[0], others=self.captions[1:], is_held=self.is_held, mask=self.mask
        )


@dataclass(frozen=True)
class Changes:
    """Names of pictures that were `added`, are `gone`, `altered`, or `recaptioned` (have other captions now)."""

    count: int  # how many are noted
    added: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    recaptioned: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.gone or self.altered or self.recaptioned)

    def names(self) -> dict[str, tuple[str, ...]]:
        """Only the kinds of change that occurred."""
        kinds = ("added", "gone", "altered", "recaptioned")
        return {kind: names for kind in kinds if (names := getattr(self, kind))}

    def problem(self, field: str, run: str) -> Problem | None:
        """The problem that keeps the run from training on the recorded pictures, if any."""
        gone, altered = some(self.gone), some(self.altered)
        if gone and altered:
            return Problem("pictures.gone_and_altered", field, count=self.count, gone=gone, altered=altered, run=run)
        if gone:
            return Problem("pictures.gone", field, count=self.count, names=gone, run=run)
        return Problem("pictures.altered", field, count=self.count, names=altered, run=run) if altered else None

    def warning(self, field: str, run: str) -> Problem | None:
        """A warning of changes that the run ignores, if any."""
        added, recaptioned = some(self.added), some(self.recaptioned)
        if added and recaptioned:
            return Problem("pictures.added_and_recaptioned", field, added=added, recaptioned=recaptioned, run=run)
        if added:
            return Problem("pictures.added", field, names=added, run=run)
        return Problem("pictures.recaptioned", field, names=recaptioned, run=run) if recaptioned else None


def note(folder: Path, entries: Iterable[Entry], are_class: bool) -> None:
    """Record the pictures of one kind in the run's folder. Raises OSError."""
    stats = [(entry, entry.path.stat()) for entry in entries if entry.is_class == are_class]
    hashes = sum(stat.st_size for _, stat in stats) <= HASHED
    lines = [
        json.dumps(
            {
                "path": str(entry.path),
                "concept": entry.concept,
                "is_class": entry.is_class,
                "captions": list(entry.captions),
                "is_held": entry.is_held,
                "size": stat.st_size,
                "modified": stat.st_mtime_ns,
                "digest": files.sha256_of(entry.path) if hashes else "",
                **_mask(entry, hashes),
            }  # in ASCII, which keeps what is no text, too: a name on Linux may be any bytes
        )
        for entry, stat in stats
    ]
    files.write_text(folder / FILES[are_class], "".join(f"{line}\n" for line in lines))


def _mask(entry: Entry, hashes: bool) -> dict[str, str]:
    """What is recorded of a picture's mask; nothing if it has none, so that lists are as before there were masks."""
    if not entry.mask:
        return {}
    return {"mask": entry.mask, "mask_digest": files.sha256_of(Path(entry.mask)) if hashes else ""}


def noted(folder: Path, are_class: bool) -> list[Listed] | None:
    """The recorded pictures, in order; None if none were recorded. Raises UserError for a damaged list."""
    path = folder / FILES[are_class]
    if not path.exists():
        return None
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [Listed(**{**row, "captions": tuple(row["captions"])}) for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError("pictures.list_damaged", "run", file=path.name, run=folder.name) from error


def first(folder: Path, most: int) -> tuple[list[Path], int]:
    """The first files that are learned from, each once, and how many pictures were noted; none where nothing was."""
    found: dict[Path, None] = {}
    count = 0
    try:
        with (folder / FILES[False]).open(encoding="utf-8") as lines:
            for line in lines:
                count += 1
                if len(found) < most:
                    found[Path(json.loads(line)["path"])] = None
    except (OSError, KeyError, TypeError, ValueError):
        return [], 0
    return list(found), count


def forget(folder: Path) -> None:
    """Let the run take pictures and captions as they are at its next start."""
    for name in FILES.values():
        (folder / name).unlink(missing_ok=True)


def compare(listed: list[Listed], entries: Iterable[Entry]) -> tuple[list[Entry], Changes]:
    """The recorded pictures of one kind that still exist, in order and with their captions, and how today's `entries`
    differ."""
    now = {(str(entry.path), entry.concept): entry for entry in entries}
    found = [(item, item.entry(now.get(item.key))) for item in listed]
    known = {item.key for item in listed}
    there = [(item, entry) for item, entry in found if entry is not None]
    recaptioned = [item.key for item, _ in there if item.key in now and item.captions != now[item.key].captions]
    return [entry for _, entry in there], Changes(
        len(listed),
        added=_names(key for key in now if key not in known),
        gone=_names(item.key for item, entry in found if entry is None),
        altered=_names(item.key for item, _ in there if item.is_altered()),
        recaptioned=_names(recaptioned),
    )


def _names(keys: Iterable[Key]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(Path(path).name for path, _ in keys))
