"""Shards for tests: tar files as webdataset writes them, of tiny pictures that their number determines."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((64, 64),)


def picture(number: int, size: tuple[int, int] = (64, 64), kind: str = "PNG") -> bytes:
    noise = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    made = io.BytesIO()
    Image.fromarray(noise).save(made, kind)
    return made.getvalue()


def sample(number: int, size: tuple[int, int] = (64, 64)) -> list[tuple[str, bytes]]:
    return [(f"{number:06d}.png", picture(number, size)), (f"{number:06d}.txt", f"thing {number}".encode())]


def tar(files: Iterable[tuple[str, bytes]], format: int = tarfile.GNU_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def write(folder: Path, counts: Iterable[int], sizes: tuple[tuple[int, int], ...] = SIZES) -> str:
    """A folder of shards with so many samples each, numbered through."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for index, count in enumerate(counts):
        files = []
        for _ in range(count):
            files += sample(number, sizes[number % len(sizes)])
            number += 1
        (folder / f"train-{index:04d}.tar").write_bytes(tar(files))
    return str(folder)


def captioned(number: int) -> bytes:
    return json.dumps({"caption": f"thing {number}"}).encode()
