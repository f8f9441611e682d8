"""Messages between a program and those that it has started, by standard input and output: each is a line, with a mark
before a JSON object that tells it from what libraries print."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import IO, Any

MARK = "\x1e"  # ASCII's record separator: no library prints it


def line(message: Mapping[str, Any]) -> bytes:
    return f"{MARK}{json.dumps(message)}\n".encode()


def messages(stream: IO[bytes], other: IO[bytes] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the messages that come on a stream until it closes. Lines that are none are written to `other`."""
    buffer = b""
    while chunk := _read(stream):
        *lines, buffer = (buffer + chunk).split(b"\n")
        for one in lines:
            before, mark, text = one.partition(MARK.encode())  # a library may have left half a line before it
            if mark:
                yield json.loads(text)
            if other and (before or not mark):
                other.write(before + b"\n")
                other.flush()


def _read(stream: IO[bytes]) -> bytes:
    """What has come, b"" when the stream has closed."""
    try:
        return os.read(stream.fileno(), 65536)
    except (OSError, ValueError):
        return b""
