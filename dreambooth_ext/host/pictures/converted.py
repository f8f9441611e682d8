"""Uploads in formats that training does not read: converted by the picture worker, with the original kept beside."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...core.system import files
from ..errors import Refusal
from .picture_worker import PictureWorker, Unreadable
from .uploads import LARGEST, PictureSets, safe_name

KEPT = ".converted"  # the folder in a set for the files as they came: hidden, so nothing lists or trains on it


def put(sets: PictureSets, worker: PictureWorker, name: str, file: str, data: bytes) -> dict[str, Any]:
    """Save the converted picture as `PictureSets.put` does, and the original. Raises a Refusal."""
    file = safe_name(file)
    if len(data) > LARGEST:
        raise Refusal(413, "upload.large_picture", "picture", file=file, most=files.human_size(LARGEST))
    with TemporaryDirectory() as folder:
        source = Path(folder) / f"original{Path(file).suffix.lower()}"
        source.write_bytes(data)
        made = convert(worker.ask, source, Path(folder) / "converted", file)
        kept = sets.put(name, _name(sets, name, file, made.suffix), made.read_bytes())
    with files.replacing(Path(kept["folder"]) / KEPT / file) as temporary:
        temporary.write_bytes(data)
    return kept


def _name(sets: PictureSets, name: str, file: str, suffix: str) -> str:
    """What the converted picture is called: as its original, unless another picture of the set is."""
    folder = sets.folder / safe_name(name)
    stem = Path(file).stem
    if (folder / KEPT / file).exists():  # the same again
        return stem + suffix
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    known = {path.stem.lower() for path in folder.iterdir()} if folder.is_dir() else set()
    return next(name for name in names if name.lower() not in known) + suffix


def convert(ask: Callable[..., Any], picture: Path, target: Path, name: str = "") -> Path:
    """Have the picture worker write a picture beside `target` in a format that training reads; the file's path.

    name: what the picture is called for people. Raises a Refusal (422) if it cannot be read.
    """
    try:
        made = ask("convert", picture, keep=False, out=str(target))
    except Unreadable as error:
        named = {"file": name or picture.name} if "file" in error.problem.values else {}
        raise Refusal(422, error.problem.code, "picture", **(error.problem.values | named)) from None
    return target.with_name(made["file"])
