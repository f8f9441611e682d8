"""Model files in a folder and below, as a form offers them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

PREVIEWS = (".preview.png",)
MOST = 2000  # files that a form can offer
SUFFIXES = {
    "lora": (".safetensors", ".ckpt", ".pt"),
    "textual_inversion": (".safetensors", ".pt", ".bin", ".png", ".webp"),
    "hypernetwork": (".pt",),
}


def listing(folder: Path, suffixes: Iterable[str], without: tuple[str, ...] = PREVIEWS) -> list[dict[str, str]]:
    """Title (the path below the folder) and path of each file that ends so, in order; no folder, no files."""
    endings, found = tuple(suffixes), []
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(endings) and not name.lower().endswith(without) and not name.startswith("."):
                path = Path(place, name)
                found.append({"title": path.relative_to(folder).as_posix(), "path": str(path)})
                if len(found) == MOST:
                    return found
    return found


def files(folders: dict[str, Path]) -> dict[str, list[dict[str, str]]]:
    """What there is to go on from, by kind. folders: the host's, by kind."""
    return {kind: listing(folders[kind], suffixes) for kind, suffixes in SUFFIXES.items()}
