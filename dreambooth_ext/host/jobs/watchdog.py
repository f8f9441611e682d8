"""Detects workers that are alive but make no progress.

A worker sends a heartbeat every two seconds from a separate thread, so one without is stopped, stuck in the system or
starved. One with a heartbeat may hang all the same: then its events show no progress, compared with the longest pause
so far, because a first step, a save or drawing class pictures can take minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...core.errors import Problem
from ...core.messages.message import Message

LOOK = 5.0  # seconds that one look counts at the most
PROGRESS = ("status", "step", "sample", "checkpoint", "artifact")


@dataclass(frozen=True)
class Patience:
    """Seconds after which a warning is given; nothing is ended because of it."""

    silent: float = 15.0  # without a heartbeat
    starting: float = 180.0  # until the first one: libraries are read from a slow disk, or checked for viruses
    stuck: float = 300.0  # without progress, at least
    factor: float = 5.0  # ... and this often the longest pause so far


class Watchdog:
    """Records what the worker does (`see`), and reports what is wrong with it (`trouble`)."""

    def __init__(self, patience: Patience, clock: Callable[[], float] = time.monotonic):
        self.patience, self.clock = patience, clock
        self._looked, self._now = clock(), 0.0
        self._beat: Any = None
        self._last_beat = self._last_progress = self._longest = 0.0

    def see(self, events: Iterable[dict[str, Any]], heartbeat: float | None) -> None:
        """Record new events and the heartbeat. Only time between these calls counts, in case the machine was asleep."""
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
        if self._beat is None and silent > self.patience.starting:
            return Problem("queue.slow_start", time=in_words(silent))
        if self._beat is not None and silent > self.patience.silent:
            return Problem("queue.silent", time=in_words(silent))
        if self._beat is not None and stuck > max(self.patience.stuck, self.patience.factor * self._longest):
            return Problem("queue.stuck", time=in_words(stuck))
        return None


def in_words(seconds: float) -> Message:
    if seconds < 120:
        return Message("queue.seconds", count=round(seconds))
    return Message("queue.minutes", count=round(seconds / 60))
