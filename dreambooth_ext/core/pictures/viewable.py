"""Pictures that can be looked at and converted, though training reads only some of their formats."""

from __future__ import annotations

import os
from pathlib import Path

from ..data import folder_scan
from ..data.captions import natural_key

CONVERTED = frozenset({".heic", ".heif", ".avif", ".tif", ".tiff", ".gif"})
CONVERTED_FORMATS = "HEIC, AVIF, TIFF, GIF"


def is_converted(name: str) -> bool:
    """Whether a file of this name must be converted before it can be trained on."""
    return os.path.splitext(name)[1].lower() in CONVERTED


def list_viewable(folder: Path) -> list[Path]:
    """Return all pictures in a folder and below, those that must be converted among them, in natural order.

    Raises OSError as `folder_scan.list_pictures` does.
    """
    left = folder_scan.LeftOut()
    found = [item.path for item in folder_scan.find_pictures(folder, left=left)]
    found += [item.path for item in left.found if is_converted(item.name)]
    return sorted(found, key=lambda path: [natural_key(part) for part in path.relative_to(folder).parts])
