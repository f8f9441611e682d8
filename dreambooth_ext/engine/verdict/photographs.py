"""The pictures that a run was trained on, as its folder has recorded them, to compare with what its models draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ...core.config.run_config import RunConfig
from ...core.data import picture_entries, picture_list
from ...core.data.concepts import Subjects
from ...core.data.entry import Entry
from ...core.errors import UserError
from ...core.pictures.training_crop import centre_crop
from ...core.runs.run_folder import Run
from ..data.images import training_pixels
from ..pictures.picture_file import picture_size


def own_entries(run: Run, config: RunConfig, subjects: Subjects) -> list[Entry]:
    """Return the run's own pictures, without class pictures: those that were recorded when it was queued and are still
    there. Raises UserError if none is."""
    entries, problems = picture_entries.entries(config, subjects)
    own = [entry for entry in entries if not entry.is_class]
    if (listed := picture_list.noted(run.path, are_class=False)) is not None:
        own, _ = picture_list.compare(listed, own)
    if not own:
        first = next(iter(problems), None)
        raise first.as_error() if first else UserError("verdict.no_photographs", "run")
    return own


def evenly(entries: Sequence[Entry], most: int) -> list[Path]:
    """Return at most so many of their files, each once, chosen evenly."""
    paths = list(dict.fromkeys(entry.path for entry in entries))
    return paths[:: max(1, -(-len(paths) // most))]


def readable(paths: Sequence[Path], size: int) -> dict[Path, Image.Image]:
    """Return the pictures as training crops them to squares of `size` pixels, without those that cannot be read, which
    training leaves out as well. Raises UserError if none can."""
    found: dict[Path, Image.Image] = {}
    for path in paths:
        try:
            pixels_chw = training_pixels(path, centre_crop(picture_size(path), (size, size)))
        except UserError as error:
            problem = error
            continue
        found[path] = Image.fromarray(pixels_chw.permute(1, 2, 0).numpy())
    if not found:
        raise problem
    return found
