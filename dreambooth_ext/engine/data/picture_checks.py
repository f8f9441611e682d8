"""Checks of all pictures before training: warns of unreadable ones, too small ones and copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ...core.config.parsing import some
from ...core.data.entry import Entry
from ...core.errors import Problem, UserError
from ...core.messages.message import reason_of
from ...core.pictures.training_crop import centre_crop
from ...core.system import files
from ..pictures.picture_file import picture_size
from .parallel import ahead, attempt, workers
from .picture import Picture

Progress = Callable[[int, int], None]  # done, total
Warn = Callable[[Problem], None]

COMPARED = 2**28  # bytes that are read at most to find copies
NAMED_AT_MOST = 20  # broken pictures


class Bounded:
    """Passes on the first of many warnings about broken pictures and counts the rest: nobody reads thousands of
    events."""

    def __init__(self, warn: Warn, limit: int = NAMED_AT_MOST):
        self.warn, self.limit, self.count = warn, limit, 0

    def __call__(self, problem: Problem) -> None:
        self.count += 1
        if self.count <= self.limit:
            self.warn(problem)

    def close(self) -> None:
        if self.count > self.limit:
            self.warn(Problem("pictures.more_left_out", count=self.count - self.limit))


def scan(
    entries: list[Entry],
    target: Callable[[tuple[int, int]], tuple[int, int]],
    digests: bool,
    left_out: Warn,
    warn: Warn,
    progress: Progress,
    by_alpha: Callable[[Entry], bool] = lambda entry: False,
) -> list[Picture]:
    """Read the size of every picture from its header. `target` maps a size to the training size, both (width, height).

    digests: also hash the files' contents. by_alpha: whose transparency weighs the loss. Unreadable pictures are
    reported to `left_out`.
    """

    def measure(entry: Entry) -> Picture:
        size = picture_size(entry.path)
        return Picture(entry, centre_crop(size, target(size)), _digest(entry.path) if digests else "", by_alpha(entry))

    found = []
    for done, result in enumerate(ahead(lambda entry: attempt(measure, entry), entries, window=256), 1):
        progress(done, len(entries))
        if isinstance(result, UserError):
            left_out(Problem("pictures.left_out", reason=result.problem.message))
        else:
            found.append(result)
    small = [p for p in found if p.crop.original[0] < p.crop.target[0] or p.crop.original[1] < p.crop.target[1]]
    if small:
        names = some([picture.entry.path.name for picture in small])
        warn(Problem("pictures.small", count=len(small), total=len(found), names=names))
    return found


def warn_of_copies(pictures: list[Picture], warn: Warn) -> None:
    """Warn of pictures with identical bytes: they count twice, and a copy of a held-out picture is trained on after
    all.

    Only files of the same length and picture size are compared, reading at most COMPARED bytes.
    """
    alike: dict[tuple[int, tuple[int, int]], dict[Path, Picture]] = {}
    for picture in pictures:
        if not picture.entry.is_class:
            key = (_length(picture.entry.path), picture.crop.original)
            alike.setdefault(key, {})[picture.entry.path] = picture
    known: dict[str, Picture] = {}
    copies, learned, left = [], 0, COMPARED
    for (length, _), group in alike.items():
        if len(group) == 1 or (left := left - length * len(group)) < 0:
            continue
        for path, picture in group.items():
            first = known.setdefault(picture.digest or _digest_or_name(path), picture)
            if first is not picture:
                copies.append(f"{path.name} = {first.entry.path.name}")
                learned += first.entry.is_held != picture.entry.is_held
    if copies:
        names = some(copies)
        if learned:
            warn(Problem("pictures.copies_held_out", count=len(copies), names=names, held=learned))
        else:
            warn(Problem("pictures.copies", count=len(copies), names=names))


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # deleted meanwhile; reading it reports that
        return -1


def _digest_or_name(path: Path) -> str:
    """Return a file's digest, or its path, which is unique, if it cannot be read."""
    try:
        return files.sha256_of(path)
    except OSError:
        return str(path)


def _digest(path: Path) -> str:
    try:
        return files.sha256_of(path)
    except OSError as error:
        raise UserError("pictures.unreadable", "instance_data_dir", file=str(path), error=reason_of(error)) from error


def verify(
    pictures: list[Picture], progress: Progress, warn: Warn, keep: Callable[[Picture, Tensor], None] | None = None
) -> list[Picture]:
    """Decode every picture once, for latents that are not encoded before training. Returns those that can be decoded.

    keep: receives the pixels of each.
    """
    kept = []
    results = ahead(lambda p: attempt(p.pixels), pictures, window=2 * workers())
    for done, (picture, result) in enumerate(zip(pictures, results, strict=True), 1):
        if isinstance(result, UserError):
            warn(Problem("pictures.left_out", reason=result.problem.message))
        else:
            kept.append(picture)
            if keep:
                keep(picture, result)
        progress(done, len(pictures))
    return kept
