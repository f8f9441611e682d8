"""Whether a worker that is there still works.

It beats every two seconds in a thread of its own, so that a silent one is stopped, stuck in the system or starved.
A beating one may hang all the same: then it tells of no progress. That is judged by the longest pause that it has
made, because a first step, a save or drawing class pictures can take minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...core.errors import Problem

LOOK = 5.0  # seconds that one look counts at the most
PROGRESS = ("status", "step", "sample", "checkpoint", "artifact")


@dataclass(frozen=True)
class Patience:
    """Seconds after which something is said; nothing is ever ended for it."""

    silent: float = 15.0  # without a heartbeat
    starting: float = 180.0  # until the first one: libraries are read from a slow disk, or checked for viruses
    stuck: float = 300.0  # without progress, at least
    factor: float = 5.0  # ... and this often the longest pause so far


class Watchdog:
    """Told what the worker does (`see`), says what is wrong with it (`trouble`)."""

    def __init__(self, patience: Patience, clock: Callable[[], float] = time.monotonic):
        self.patience, self.clock = patience, clock
        self._looked, self._now = clock(), 0.0
        self._beat: Any = None
        self._last_beat = self._last_progress = self._longest = 0.0

    def see(self, events: Iterable[dict[str, Any]], heartbeat: float | None) -> None:
        """Whether time has passed is judged by these calls: a machine that slept meanwhile is nobody's fault."""
        looked = self.clock()
        self._now += min(looked - self._looked, LOOK)
        self._looked = looked
        if any(event["type"] in PROGRESS and "clears" not in event for event in events):
            self._longest = max(self._longest, self._now - self._last_progress)
            self._last_progress = self._last_beat = self._now
        if heartbeat is not None and heartbeat != self._beat:
            self._beat, self._last_beat = heartbeat, self._now

    def trouble(self) -> Problem | None:
        silent, stuck = self._now - self._last_beat, self._now - self._last_progress
        ending = "end it and resume it from its last checkpoint."
        if self._beat is None and silent > self.patience.starting:
            message = f"the training process has not begun within {in_words(silent)}."
            return Problem("", message, f"A first start can take long, on a slow disk above all. Wait, or {ending}")
        if self._beat is not None and silent > self.patience.silent:
            message = f"the training process has not answered for {in_words(silent)}: it is paused, or hangs."
            return Problem("", message, f"If the machine is very busy, wait; else {ending}")
        if self._beat is not None and stuck > max(self.patience.stuck, self.patience.factor * self._longest):
            message = f"the training process has made no progress for {in_words(stuck)}, though it is alive."
            return Problem("", message, f"Look at its log. Wait if the machine is very busy, or {ending}")
        return None


def in_words(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
