"""Pictures as the page asks for them: small with `?size=`, else as they are."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response

from ..pictures import image_decoding, uploads
from .endpoint import Call
from .responses import picture


def thumbnail(call: Call, path: Path) -> Response:
    """A JPEG of the size that is asked for, else of the largest one: never the file itself."""
    size = uploads.fitting(call.number("size") or uploads.SIZES[-1])
    return picture(call.headers, path, "image/jpeg", lambda: image_decoding.thumbnail(path, size), size)


def as_it_is(call: Call, path: Path, kind: str) -> Response:
    """A picture of our own making, or a thumbnail of it if a size is asked for."""
    if kind != "image/svg+xml" and call.number("size"):
        return thumbnail(call, path)
    return picture(call.headers, path, kind, path.read_bytes)
