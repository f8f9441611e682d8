"""Rejects JPEGs with thousands of scans: each may be only a few bytes, but takes a pass over all pixels to decode."""

from __future__ import annotations

import re

from ..messages.message import Message

MOST_PASSES = 200  # usual are 1, and 10 of progressive ones
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
# A marker; neither a stuffed zero nor what stands alone within a pass
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)


def require_few_passes(content: bytes) -> None:
    """Raise ValueError for a JPEG with more scans than real pictures have. Data after its end (a video) is ignored."""
    at, passes = 0, 0
    while (found := _MARKER.search(content, at)) and found[1][0] != END_OF_IMAGE:
        passes += found[1][0] == START_OF_SCAN
        if passes > MOST_PASSES:
            raise ValueError(Message("pictures.too_many_passes"))
        at = found.end() + max(2, int.from_bytes(content[found.end() : found.end() + 2], "big"))
