"""Explains why a worker ended without saying so itself: its exit code, the end of its log, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...core.errors import Problem
from ...core.messages.message import Message
from ...core.runs import training_states
from ...core.runs.exit_codes import in_words
from ...core.runs.run_folder import Run

LINES, CHARACTERS = 6, 800  # of the log's end: what is quoted at the most
REACH_A_LETTER = 10  # bytes of the log that are looked at for each of these: progress bars draw over themselves


def explain(run: Run, code: int | None, log_from: int = 0, began: bool = True, by_user: bool = False) -> Problem:
    """Why the worker ended, and what to do.

    code: its exit code, None if unknown because another host started it. log_from: where this worker's part of log.txt
    begins, in bytes. began: whether it sent a first heartbeat. by_user: the user asked to end it.
    """
    log = tail(run.path / "log.txt", log_from)
    about: dict[str, Any]
    if by_user:
        about = {"advice": resuming(run)}
        return Problem("queue.ended_by_user_log", log=log, **about) if log else Problem("queue.ended_by_user", **about)
    about = {"reason": in_words(code), "advice": _advice(run, code, began)}
    return Problem("queue.ended_log", log=log, **about) if log else Problem("queue.ended", **about)


def _advice(run: Run, code: int | None, began: bool) -> Message:
    if not began and code is not None and 0 <= code <= 0xFFFF:
        return Message("queue.if_a_package", advice=resuming(run))
    return Message("queue.if_memory", advice=resuming(run)) if code in (None, -9) else resuming(run)


def resuming(run: Run) -> Message:
    """From where the run can be resumed."""
    step = training_states.newest_step(run)
    return Message("queue.resume_from", step=step) if step is not None else Message("queue.resume_anew")


def tail(log: Path, start: int = 0, *, lines: int = LINES, characters: int = CHARACTERS) -> str:
    """The last lines of a log from byte `start` on, shortened; "" if there are none."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(start, size - REACH_A_LETTER * characters))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    # of a progress bar, which draws over itself, its last look
    written = [line.rstrip().rpartition("\r")[2] for line in text.split("\n") if line.strip()]
    return "\n".join(written[-lines:])[-characters:]
