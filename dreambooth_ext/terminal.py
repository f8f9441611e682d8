"""Progress of countable work on standard error: one moving line on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO


class Progress:
    """A bar with rate and time left. Use as a context manager, so that the line is ended also after an error.

    `update(done, text)` takes the absolute number of things done and what to say about them (a loss, a file's name).
    `start` is what was done before this process, in a resumed run: it counts for the bar and not for the rate.
    """

    BAR = 24  # characters

    def __init__(
        self, total: int, label: str, *, start: int = 0, stream: TextIO | None = None, quiet_seconds: float = 5.0
    ):
        self.total, self.label, self.start = total, label, start
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.pause = 0.1 if self.live else quiet_seconds
        self.began = time.monotonic()
        self.shown = float("-inf")
        self.width = 0

    def update(self, done: int, text: str = "") -> None:
        now = time.monotonic()
        if now - self.shown < self.pause and done < self.total:
            return
        self.shown = now
        line = self.line(done, text, now - self.began)
        if self.live:
            line = line[: shutil.get_terminal_size().columns - 1]
            self._write("\r" + line.ljust(self.width))
            self.width = len(line)
        else:
            self._write(line + "\n")

    def line(self, done: int, text: str, seconds: float) -> str:
        share = done / self.total if self.total else 1.0
        rate = (done - self.start) / seconds if seconds > 0 else 0.0
        filled = round(share * self.BAR)
        bar = f"[{'#' * filled}{'.' * (self.BAR - filled)}] " if self.live else ""
        parts = [f"{self.label} {bar}{done}/{self.total} ({100 * share:.0f} %)"]
        if rate:
            parts.append(f"{rate:.2f}/s" if rate >= 1 else f"{1 / rate:.1f} s each")
            parts.append(f"{clock((self.total - done) / rate)} left" if done < self.total else f"took {clock(seconds)}")
        return ", ".join([*parts, text] if text else parts)

    def close(self) -> None:
        if self.width:
            self._write("\n")
            self.width = 0

    def _write(self, text: str) -> None:
        encoding = self.stream.encoding or "utf-8"  # a Windows console may not know a name's letters
        self.stream.write(text.encode(encoding, "replace").decode(encoding))
        self.stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def clock(seconds: float) -> str:
    """65 -> "1:05", 3700 -> "1:01:40"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
