r"""Output for terminals and logs: lines, and progress on one updating line, or every few seconds if it cannot update.

File names, captions and prompts are untrusted text. A terminal obeys control characters (ESC) in it, and a line break
forges a line of a log; so everything printed here has such characters escaped: \x1b, \n, \u202e.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

Stages = Callable[["float | None", str], None]  # (share done from 0 to 1, or None where unknown; what is happening)

# Controls of old and new (C0, C1), ends of lines and paragraphs, what turns the direction of writing, halves of letters
COMMANDS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escaped(text: str, but: str = "") -> str:
    r"""The text with its control characters escaped, except those in `but`. JSON keeps its meaning: it contains no raw
    C0 characters, and \uXXXX means the character."""

    def written_out(match: re.Match[str]) -> str:
        letter = match[0]
        if letter in but:
            return letter
        return SHORT.get(letter) or (f"\\x{ord(letter):02x}" if letter < " " else f"\\u{ord(letter):04x}")

    return COMMANDS.sub(written_out, text)


def say(*lines: object, stream: TextIO | None = None) -> None:
    """Print each line on standard error or `stream`; nothing in a program that has none (pythonw)."""
    stream = stream or sys.stderr
    if stream is not None:
        _write(stream, "".join(f"{escaped(str(line))}\n" for line in lines))


def say_traceback(error: BaseException) -> None:
    """Print a traceback for developers, each line behind a bar, because an error's text may look like anything."""
    lines = "".join(traceback.format_exception(error)).rstrip("\n").split("\n")
    say(*(f"| {line}" for line in lines))


def _write(stream: TextIO, text: str) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"  # a Windows console may not know a name's letters
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


class Shield:
    """A wrapper of standard output or error that escapes what libraries print, except line breaks and tabs."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(escaped(text, but="\n\r\t"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class OutputError(OSError):
    """Standard output cannot be written: no fault of a run or of our files."""


class Output(Shield):
    """Standard output whose write errors can be told apart from other disk errors. Raises OutputError."""

    def write(self, text: str) -> int:
        with _told_apart():
            return super().write(text)

    def flush(self) -> None:
        with _told_apart():
            self._stream.flush()

    def give_up(self) -> None:
        """Discard pending output, so that Python does not try to write it again at exit."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise OutputError(error.errno, f"standard output cannot be written ({why})") from error


def say_unwritable(error: OutputError) -> None:
    """Report an OutputError at the end of a program, and discard what is left of standard output."""
    if isinstance(sys.stdout, Output):
        sys.stdout.give_up()
    say(f"error: {error.strerror}")


class _Record(logging.LogRecord):
    def getMessage(self) -> str:
        return escaped(super().getMessage())


def shield() -> None:
    """Escape whatever any library prints, logs or warns of; called at the start of our own programs."""
    sys.stdout = sys.stdout and Output(sys.stdout)
    sys.stderr = sys.stderr and Shield(sys.stderr)
    logging.setLogRecordFactory(_Record)
    warnings.formatwarning = lambda message, category, *_, **__: escaped(f"{category.__name__}: {message}") + "\n"


def silent(share: float | None, message: str) -> None:
    """A `Stages` callback for callers without a screen: does nothing."""


def open_missing_streams() -> None:
    """Open missing standard streams on the null device: services, pythonw.exe and shells (`>&-`) start programs
    without.

    Must be called first: otherwise the next opened file gets a missing stream's number, and the output of programs that
    we start is written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            made = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)  # takes the lowest free number
            os.set_inheritable(made, True)
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good


class Line:
    """A line that is updated in place. Used as a context manager, so that it is ended also after an error."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        """Replace the shown text, or print a new line where the stream is no terminal."""
        text = escaped(text)
        if self.live:
            text = text[: shutil.get_terminal_size().columns - 1]
            _write(self.stream, "\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            _write(self.stream, text + "\n")

    def close(self) -> None:
        if self._width:
            _write(self.stream, "\n")
            self._width = 0

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class StageLine(Line):
    """A `Stages` callback that shows work of unknown length, stage by stage ("installing: torch")."""

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
    """A progress bar with rate and time left, for countable work.

    `update(done, text)` takes the absolute number of things done and a text to show (a loss, a file's name). `start` is
    what an earlier process had done in a resumed run: it counts for the bar but not for the rate. `since`: when the
    work began, by time.monotonic, if this bar continues an earlier one.
    """

    BAR = 24  # characters
    LEAST = 0.5  # seconds after which a rate means something

    def __init__(
        self,
        total: int,
        label: str,
        *,
        start: int = 0,
        since: float | None = None,
        stream: TextIO | None = None,
        quiet_seconds: float = 5.0,
    ):
        super().__init__(stream)
        self.total, self.label, self.start = total, label, start
        self.pause = 0.1 if self.live else quiet_seconds
        self.began = time.monotonic()
        self.earlier = 0.0 if since is None else self.began - since  # seconds
        self.shown = float("-inf")

    def update(self, done: int, text: str = "") -> None:
        now = time.monotonic()
        if now - self.shown < self.pause and (done < self.total or not self.total):
            return
        self.shown = now
        self.show(self.line(done, text, now - self.began))

    def line(self, done: int, text: str, seconds: float) -> str:
        if not self.total:  # nobody knows
            return ", ".join([f"{self.label} {done}", *([text] if text else [])])
        share = done / self.total
        rate = (done - self.start) / seconds if seconds > self.LEAST else 0.0
        filled = round(share * self.BAR)
        bar = f"[{'#' * filled}{'.' * (self.BAR - filled)}] " if self.live else ""
        parts = [f"{self.label} {bar}{done}/{self.total} ({100 * share:.0f} %)"]
        if rate:
            parts.append(f"{rate:.2f}/s" if rate >= 1 else f"{1 / rate:.1f} s each")
            left, took = (self.total - done) / rate, seconds + self.earlier
            parts.append(f"{clock(left)} left" if done < self.total else f"took {clock(took)}")
        return ", ".join([*parts, text] if text else parts)


def clock(seconds: float) -> str:
    """65 -> "1:05", 3700 -> "1:01:40"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
