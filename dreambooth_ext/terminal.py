"""Progress on standard error: one moving line on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

Stages = Callable[["float | None", str], None]  # (share done from 0 to 1, or None where unknown; what is happening)


def silent(share: float | None, message: str) -> None:
    """`Stages` for callers without a screen."""


class Line:
    """The line that moves. A context manager, so that it is ended also after an error."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        """In place of what was shown last, or on a line of its own where nothing can move."""
        if self.live:
            text = text[: shutil.get_terminal_size().columns - 1]
            self._write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._write(text + "\n")

    def close(self) -> None:
        if self._width:
            self._write("\n")
            self._width = 0

    def _write(self, text: str) -> None:
        encoding = self.stream.encoding or "utf-8"  # a Windows console may not know a name's letters
        self.stream.write(text.encode(encoding, "replace").decode(encoding))
        self.stream.flush()

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class StageLine(Line):
    """`Stages` on a stream: work whose length is not known, told stage by stage ("installing: torch")."""

    def __init__(self, stream: TextIO | None = None, quiet_seconds: float = 15.0):
        super().__init__(stream)
        self.quiet_seconds = quiet_seconds  # between plain lines of one stage: logs should stay readable
        self._stage = ""
        self._last = 0.0

    def __call__(self, share: float | None, message: str) -> None:
        now, stage = time.monotonic(), message.partition(":")[0]
        if self.live or stage != self._stage or now - self._last > self.quiet_seconds:
            self.show(("" if share is None else f"{100 * share:3.0f} % ") + message)
            self._last = now
        self._stage = stage


class Progress(Line):
    """A bar with rate and time left, for countable work.

    `update(done, text)` takes the absolute number of things done and what to say about them (a loss, a file's name).
    `start` is what was done before this process, in a resumed run: it counts for the bar and not for the rate.
    """

    BAR = 24  # characters
    LEAST = 0.5  # seconds after which a rate means something

    def __init__(
        self, total: int, label: str, *, start: int = 0, stream: TextIO | None = None, quiet_seconds: float = 5.0
    ):
        super().__init__(stream)
        self.total, self.label, self.start = total, label, start
        self.pause = 0.1 if self.live else quiet_seconds
        self.began = time.monotonic()
        self.shown = float("-inf")

    def update(self, done: int, text: str = "") -> None:
        now = time.monotonic()
        if now - self.shown < self.pause and done < self.total:
            return
        self.shown = now
        self.show(self.line(done, text, now - self.began))

    def line(self, done: int, text: str, seconds: float) -> str:
        share = done / self.total if self.total else 1.0
        rate = (done - self.start) / seconds if seconds > self.LEAST else 0.0
        filled = round(share * self.BAR)
        bar = f"[{'#' * filled}{'.' * (self.BAR - filled)}] " if self.live else ""
        parts = [f"{self.label} {bar}{done}/{self.total} ({100 * share:.0f} %)"]
        if rate:
            parts.append(f"{rate:.2f}/s" if rate >= 1 else f"{1 / rate:.1f} s each")
            parts.append(f"{clock((self.total - done) / rate)} left" if done < self.total else f"took {clock(seconds)}")
        return ", ".join([*parts, text] if text else parts)


def clock(seconds: float) -> str:
    """65 -> "1:05", 3700 -> "1:01:40"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
