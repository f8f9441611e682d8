"""The worker's side of the conversation: says where the run stands, hears commands, beats its heart."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from .. import protocol
from ..runs import Run, this_worker

HEARTBEAT = 2.0  # seconds


class Control:
    """A context manager around a run's whole life in this process.

    state.json is written by one thread at a time: on each change of status, and with every heartbeat.
    """

    def __init__(self, run: Run):
        self.run = run
        self.events = run.events
        self._state: dict[str, Any] = this_worker()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._signalled = False
        self._last_stage = 0.0
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Control:
        for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
            if hasattr(signal, name) and threading.current_thread() is threading.main_thread():
                signal.signal(getattr(signal, name), self._on_signal)
        protocol.take_commands(self.run.commands)  # what was meant for an earlier worker
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def status(self, status: str, **state: Any) -> None:
        """Change the run's status, at once and for every reader."""
        assert status in protocol.STATUSES, status
        self.update(status=status, **state)
        self._write()
        self.events.append("status", status=status, **state)

    def update(self, **state: Any) -> None:
        """Change what the next heartbeat writes: step, total."""
        with self._lock:
            self._state.update(state)

    def stage(self, stage: str, done: int, total: int) -> None:
        """Progress of something long before or after training; at most two events a second."""
        now = time.monotonic()
        if done >= total or now - self._last_stage > 0.5:
            self._last_stage = now
            self.events.append("status", status=self._state["status"], stage=stage, done=done, of=total)

    def warn(self, message: str, field: str = "", remedy: str = "") -> None:
        self.events.append("warning", what=message, field=field, remedy=remedy)

    def commands(self) -> list[str]:
        """Commands since the last call; a signal to end counts as `stop`."""
        waiting = protocol.take_commands(self.run.commands)
        if self._signalled:
            self._signalled = False
            waiting.append("stop")
        return waiting

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            with contextlib.suppress(OSError):  # a full disk must not silence the worker: the next save will speak
                self._write()

    def _write(self) -> None:
        with self._lock:
            self.run.write_state(**self._state, heartbeat=round(time.time(), 3))
