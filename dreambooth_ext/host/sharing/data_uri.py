"""A picture inside a page: encoded anew, so that nothing but its pixels is passed on."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path

from ..errors import Refusal
from ..pictures.image_decoding import thumbnail


def data_uri(path: Path | None, size: int) -> str | None:
    """A JPEG within so many pixels; None where the picture cannot be read."""
    if path is None:
        return None
    with contextlib.suppress(Refusal, OSError):
        return "data:image/jpeg;base64," + base64.b64encode(thumbnail(path, size)).decode()
    return None
