"""Progress of long set-up work: one line that updates on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

Progress = Callable[["float | None", str], None]  # (share done from 0 to 1, or None where unknown; what is happening)


def silent(fraction: float | None, message: str) -> None:
    """For callers without a screen."""


class TerminalProgress:
    """A `Progress` for a stream. Use as a context manager, so that the line is ended also after an error."""

    def __init__(self, stream: TextIO | None = None, quiet_seconds: float = 15.0):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.quiet_seconds = quiet_seconds  # between plain lines of one stage: logs should stay readable
        self._stage = ""
        self._last = 0.0
        self._width = 0

    def __call__(self, fraction: float | None, message: str) -> None:
        share = "" if fraction is None else f"{100 * fraction:3.0f} % "
        now = time.monotonic()
        if self.live:
            line = f"{share}{message}"[: shutil.get_terminal_size().columns - 1]
            self._write("\r" + line.ljust(self._width))
            self._width = len(line)
        elif message.partition(":")[0] != self._stage or now - self._last > self.quiet_seconds:
            self._write(f"{share}{message}\n")
            self._last = now
        self._stage = message.partition(":")[0]

    def _write(self, text: str) -> None:
        encoding = self.stream.encoding or "utf-8"  # a Windows console may not know a path's letters
        self.stream.write(text.encode(encoding, "replace").decode(encoding))
        self.stream.flush()

    def __enter__(self) -> TerminalProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._width:
            self._write("\n")
            self._width = 0
