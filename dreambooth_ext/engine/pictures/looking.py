"""Look at one picture: its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .other_formats import readable_formats
from .picture_file import opened, picture_size


def size(path: str) -> dict[str, Any]:
    """Return {"width", "height", "format"} of the upright picture, from its header."""
    formats = readable_formats()
    width, height = picture_size(Path(path), formats)
    with opened(Path(path), formats) as image:
        return {"width": width, "height": height, "format": image.format}
