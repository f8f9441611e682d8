"""Lists the model files in a folder and below for the form."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PREVIEWS = (".preview.png",)
CHECKPOINTS = (".safetensors", ".ckpt")
NO_CHECKPOINTS = (".vae.safetensors", ".vae.ckpt")  # the WebUI lists these with the VAEs
MOST = 2000  # files that a form can offer
REST = 5.0  # seconds, at least, between looks through folders; a slow disk is given
SHARE = 20  # ... so many times what the last look took
SUFFIXES = {
    "lora": (".safetensors", ".ckpt", ".pt"),
    "textual_inversion": (".safetensors", ".pt", ".bin", ".png", ".webp"),
    "hypernetwork": (".pt",),
}


def listing(folder: Path, suffixes: Iterable[str], without: tuple[str, ...] = PREVIEWS) -> list[dict[str, str]]:
    """Title (the path below the folder) and path of each file with such an ending, in order; [] without the folder."""
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
    """The files that training can continue from, by kind. folders: the host's, by kind."""
    return {kind: listing(folders[kind], suffixes) for kind, suffixes in SUFFIXES.items()}


def checkpoints(folder: Path) -> list[dict[str, str]]:
    return listing(folder, CHECKPOINTS, NO_CHECKPOINTS)


class Mark:
    """A short text that changes whenever the result of `look` does, for pages that ask every second."""

    def __init__(self, look: Callable[[], Any], clock: Callable[[], float] = time.monotonic):
        self.look, self.clock = look, clock
        self._due, self._text = 0.0, ""

    def __call__(self) -> str:
        began = self.clock()
        if not self._text or began >= self._due:
            told = json.dumps(self.look(), default=str, sort_keys=True)
            self._text = hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:16]
            self._due = self.clock() + max(REST, SHARE * (self.clock() - began))
        return self._text
