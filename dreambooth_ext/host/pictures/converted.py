"""Uploads in formats that training does not read: converted by the picture worker, with the original kept beside."""

from __future__ import annotations

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
        try:
            made = worker.ask("convert", source, keep=False, out=str(Path(folder) / "converted"))
        except Unreadable as error:
            values = error.problem.values | ({"file": file} if "file" in error.problem.values else {})
            raise Refusal(422, error.problem.code, "picture", **values) from None
        converted = Path(folder) / made["file"]
        kept = sets.put(name, Path(file).stem + converted.suffix, converted.read_bytes())
    with files.replacing(Path(kept["folder"]) / KEPT / file) as temporary:
        temporary.write_bytes(data)
    return kept
