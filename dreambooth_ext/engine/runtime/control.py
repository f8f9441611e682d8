"""The worker's side of a run's folder: writes status, events and the heartbeat, and takes commands."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, BinaryIO

from ...core.config import links
from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem
from ...core.messages.message import Message, beside
from ...core.runs import events
from ...core.runs.event_text import told
from ...core.runs.events import EventLog
from ...core.runs.leader_lock import LeaderLock
from ...core.runs.run_folder import Run, this_worker
from ...core.system.terminal import say

HEARTBEAT = 2.0  # seconds
STEP_LINES = 10.0  # seconds between steps that the log tells of
STOPPING = ("stop", "stop_and_save")


class Stopped(Exception):
    """The user stopped the run while it was still being prepared."""


def take_standard_input() -> BinaryIO:
    """Standard input under another number, which programs that this one starts do not inherit; they find it empty.

    On Windows a program hangs at its start where somebody waits for the pipe that it inherits as standard input.
    """
    pipe, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return io.FileIO(pipe, closefd=False)  # a buffered one, or one to close, would lock the exit


class Told(EventLog):
    """Also writes what it appends to standard error, the run's log; of steps only one every few seconds."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._last_step = -STEP_LINES  # seconds

    def append(self, type: str, **data: Any) -> dict[str, Any]:
        event = super().append(type, **data)
        if type == "step" and data["step"] < data["total"] and time.monotonic() - self._last_step < STEP_LINES:
            return event
        if type == "step":
            self._last_step = time.monotonic()
        if type != "error":  # the worker prints it, also where the disk is too full for events
            with contextlib.suppress(OSError):
                say(f"{time.strftime('%H:%M:%S')}  {told(event)}")
        return event


class Control:
    """A context manager around a run's whole life in this process.

    state.json is written by one thread at a time: on each change of status, and with every heartbeat.
    """

    def __init__(self, run: Run):
        self.run = run
        self.events: EventLog = Told(run.events.path)
        self.links = links.taken()  # whole ones
        self.config: ResolvedConfig | None = None  # once the base and the machine have answered
        self._state: dict[str, Any] = this_worker()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._signalled = False
        self._handlers: dict[int, Any] = {}  # those that were there before
        self._kept: list[str] = []  # commands that were heard during the preparations
        self._last_stage = 0.0
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Control:
        for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
            if hasattr(signal, name) and threading.current_thread() is threading.main_thread():
                number = getattr(signal, name)
                self._handlers[number] = signal.signal(number, self._on_signal)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @property
    def current(self) -> str:
        """The status that was last set."""
        return self._state["status"]

    def status(self, status: str, **state: Any) -> None:
        """Change the run's status, at once and for every reader."""
        assert status in events.STATUSES, status
        self.update(status=status, **state)
        self._write()
        self.events.append("status", status=status, **state)

    def end(self, how: str, **state: Any) -> None:
        """The worker's last word: how it ended; all is written. Where somebody has models to publish and a device to
        give back, it is he who tells that the run has ended so, after that; if he was killed, whoever does it in his
        place.
        """
        self.status(**{**self.run.ending(how), **state})

    def update(self, **state: Any) -> None:
        """Change what the next heartbeat writes: step, total."""
        with self._lock:
            self._state.update(state)

    def stage(self, stage: Message, done: int, total: int) -> None:
        """Progress of something long before training; at most two events a second. Raises Stopped when told to."""
        self._kept = self.commands()
        if any(command in STOPPING for command in self._kept):
            raise Stopped
        now = time.monotonic()
        if done >= total > 0 or now - self._last_stage > 0.5:
            self._last_stage = now
            self.progress(stage, done, total)

    def progress(self, stage: Message, done: int, total: int) -> None:
        """Tell of something long, whenever it is; commands wait until it is over."""
        self.events.append("status", status=self.current, **beside("stage", stage), done=done, of=total)

    def warn(self, problem: Problem) -> None:
        self.events.append("warning", **problem.as_event())

    def commands(self) -> list[str]:
        """Commands since the last call; a signal to end counts as `stop`.

        Raises FileNotFoundError where the run's folder was deleted.
        """
        self.run.check_exists()
        waiting, self._kept = [*self._kept, *events.take_commands(self.run.commands)], []
        if self._signalled:
            self._signalled = False
            waiting.append("stop")
        return waiting

    def stop_with(self, parent: BinaryIO) -> None:
        """Stop when the other end of this pipe closes: the program that we belong to has ended, however it did."""

        def wait() -> None:
            while parent.read(1):
                pass
            self._signalled = True

        threading.Thread(target=wait, name="parent", daemon=True).start()

    def stop_without(self, leader_lock: LeaderLock) -> None:
        """Stop when the host that started us is gone, however it went, if it had wished that by then.

        Only what is seen twice counts: another host may take over, or just be looking.
        """

        def watch() -> None:
            looks = 0
            while not self._ended.wait(HEARTBEAT):
                with contextlib.suppress(OSError):  # of a network folder: unseen is not gone
                    looks = 0 if leader_lock.is_taken() else looks + 1
                    if looks == 2 and leader_lock.stops_on_close():
                        self._signalled = True

        threading.Thread(target=watch, name="leader", daemon=True).start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            with contextlib.suppress(OSError):  # a full disk must not silence the worker: the next save will speak
                self._write()

    def _write(self) -> None:
        with self._lock:
            self.run.write_state(**self._state, heartbeat=round(time.time(), 3))


class Nowhere(EventLog):
    """Takes events and keeps none."""

    def append(self, type: str, **data: Any) -> dict[str, Any]:
        return {}


class Follower(Control):
    """Of the other processes where several train one run: the first one speaks and listens for all of them."""

    def __init__(self, run: Run):
        super().__init__(run)
        self.events = Nowhere(run.events.path)

    def status(self, status: str, **state: Any) -> None:
        self._state["status"] = status

    def stage(self, stage: Message, done: int, total: int) -> None:
        pass

    def warn(self, problem: Problem) -> None:
        pass

    def commands(self) -> list[str]:
        return []

    def _write(self) -> None:
        pass
