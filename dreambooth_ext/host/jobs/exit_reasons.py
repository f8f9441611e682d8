"""How a worker ended that could not say so itself: its exit code in words, the end of its log, what to do now."""

from __future__ import annotations

import signal
from pathlib import Path

from ...core.errors import Problem
from ...core.runs.run_folder import Run

LINES, CHARACTERS = 6, 800  # of the log's end: what is quoted at the most
REACH_A_LETTER = 10  # bytes of the log that are looked at for each of these: progress bars draw over themselves
MEMORY = "If the machine was short of memory, close other programs or choose settings that need less, then resume it"
KILLED = "The system does so when memory runs out; a user or another program can, too"
WINDOWS_CODES = {
    0xC0000005: "a library crashed it (access violation)",
    0xC0000017: "there was no memory left",
    0xC000001D: "a library used an instruction that this processor lacks",
    0xC00000FD: "a library crashed it (stack overflow)",
    0xC0000135: "a library that it needs is missing",
    0xC0000142: "a library could not be started",
    0xC0000374: "a library crashed it (damaged heap)",
    0xC0000409: "a library crashed it (damaged stack)",
    0xC000012D: "the paging file was too small for the memory that it needed",
    0xC000013A: "its console was closed, or Ctrl-C was pressed",
    0x40010004: "the system was shut down, or the user logged off",
}
CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")


def explain(run: Run, code: int | None, log_from: int = 0, began: bool = True, by_user: bool = False) -> Problem:
    """Why the worker is gone and what to do.

    code: what the system says of its process, None where that is unknown because another host had started it.
    log_from: where in log.txt this worker's part begins, in bytes. began: it got as far as its first heartbeat.
    by_user: it was ended at the user's word.
    """
    if by_user:
        reason, remedy = "it was ended at your word, without saving", resuming(run)
    else:
        reason, remedy = in_words(code), resuming(run)
        if not began and code is not None and 0 <= code <= 0xFFFF:
            remedy = f"If its log names a package, repair the trainer's environment. {remedy}"
        elif code in (None, -9):
            remedy = f"{MEMORY}. {remedy}"
    said = tail(run.path / "log.txt", log_from)
    quoted = f"\nThe end of its log:\n{said}" if said else ""
    return Problem("", f"the training process is gone: {reason}.{quoted}", remedy)


def in_words(code: int | None) -> str:
    """An exit status as the system gives it; POSIX' signals are negative."""
    if code is None:
        return "it was killed, or the machine went down"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        if name == "SIGKILL":
            return f"it was killed (signal 9, SIGKILL). {KILLED}"
        if name in CRASHES:
            return f"a library crashed it (signal {-code}, {name})"
        return f"it was told to end by signal {-code}, {name}"
    if code in WINDOWS_CODES:
        return f"{WINDOWS_CODES[code]} (exit code 0x{code:08X})"
    if code > 0xFFFF:
        return f"it ended with exit code 0x{code:08X}"
    return f"it ended with exit code {code}"


def saved_step(run: Run) -> int | None:
    """The step of its last checkpoint."""
    return max((int(path.name) for path in run.checkpoints.glob("[0-9]*") if path.name.isdigit()), default=None)


def resuming(run: Run) -> str:
    """Where the run can go on from."""
    step = saved_step(run)
    if step is not None:
        return f"Resume it: it goes on from step {step}."
    return "Nothing was saved yet: resuming starts it from the beginning."


def tail(log: Path, start: int = 0, *, lines: int = LINES, characters: int = CHARACTERS) -> str:
    """The last lines of a log from byte `start` on, as far as they help; "" if there are none."""
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
