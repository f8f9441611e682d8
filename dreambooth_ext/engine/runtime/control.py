"""The worker's side of a run's folder: write status, events and heartbeat, and receive commands."""

from __future__ import annotations

import contextlib
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
from ..launching.leash import Leash
from ..launching.line import Line

HEARTBEAT = 2.0  # seconds
STEP_LINES = 10.0  # seconds between steps in the log
STOPPING = ("stop", "stop_and_save")


class Stopped(Exception):
    """The user stopped the run while it was being prepared."""


class Told(EventLog):
    """An event log that also prints events to standard error, the run's log; steps only every few seconds."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._last_step = -STEP_LINES  # seconds

    def append(self, type: str, **data: Any) -> dict[str, Any]:
        event = super().append(type, **data)
        if type == "step" and data["step"] < data["total"] and time.monotonic() - self._last_step < STEP_LINES:
            return event
        if type == "step":
            self._last_step = time.monotonic()
        if type != "error":  # the worker prints errors itself, even if the disk is too full for events
            with contextlib.suppress(OSError):
                say(f"{time.strftime('%H:%M:%S')}  {told(event)}")
        return event


class Control:
    """A context manager around a run's whole life in this process: status, events, heartbeat, commands.

    state.json is written by one thread at a time: on each change of status, and with every heartbeat.
    """

    def __init__(self, run: Run):
        self.run = run
        self.events: EventLog = Told(run.events.path)
        self.links = links.taken()  # complete links
        self.config: ResolvedConfig | None = None  # once it is resolved
        self._state: dict[str, Any] = this_worker()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._signalled = False
        self._handlers: dict[int, Any] = {}  # the previous handlers
        self._kept: list[str] = []  # commands received during preparation
        self._last_stage = 0.0
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.leash: Leash | Line | None = None  # to the launcher of several processes, or to these

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
        """The last status set."""
        return self._state["status"]

    def status(self, status: str, **state: Any) -> None:
        """Change the run's status, and write it at once."""
        assert status in events.STATUSES, status
        self.update(status=status, **state)
        self._write()
        self.events.append("status", status=status, **state)

    def end(self, how: str, **state: Any) -> None:
        """Record how the run ended, once everything is written. If a host still has to publish models and give back a
        device, it sets the final status after that, or another host in its place if it was killed."""
        self.status(**{**self.run.ending(how), **state})

    def update(self, **state: Any) -> None:
        """Change what the next heartbeat writes, such as step and total."""
        with self._lock:
            self._state.update(state)

    def stage(self, stage: Message, done: int, total: int) -> None:
        """Report progress of long preparations, at most twice a second. Raises Stopped after a command to stop."""
        self._kept = self.commands()
        if any(command in STOPPING for command in self._kept):
            raise Stopped
        now = time.monotonic()
        if done >= total > 0 or now - self._last_stage > 0.5:
            self._last_stage = now
            self.progress(stage, done, total)

    def progress(self, stage: Message, done: int, total: int) -> None:
        """Report progress of long work at any time. Commands wait until it is over."""
        self.events.append("status", status=self.current, **beside("stage", stage), done=done, of=total)

    def beside(self, stage: Message, done: int, total: int) -> None:
        """Report progress of work that is done beside the steps, every few seconds, and its end."""
        now = time.monotonic()
        if done >= total or now - self._last_stage > STEP_LINES:
            self._last_stage = now
            self.progress(stage, done, total)

    def warn(self, problem: Problem) -> None:
        self.events.append("warning", **problem.as_event())

    def commands(self) -> list[str]:
        """Return the commands since the last call. A termination signal counts as `stop`.

        Raises FileNotFoundError if the run's folder was deleted.
        """
        self.run.check_exists()
        waiting, self._kept = [*self._kept, *events.take_commands(self.run.commands)], []
        if self._signalled:
            self._signalled = False
            waiting.append("stop")
        return waiting

    def stop_with(self, parent: BinaryIO) -> None:
        """Stop when the other end of this pipe closes, which means that the parent program has ended for whatever
        reason."""

        def wait() -> None:
            while parent.read(1):
                pass
            self._signalled = True

        threading.Thread(target=wait, name="parent", daemon=True).start()

    def stop_without(self, leader_lock: LeaderLock) -> None:
        """Stop when the host that started this run is gone for whatever reason, if it had asked for that.

        Only two observations in a row count, since another host may be taking over or just be checking.
        """

        def watch() -> None:
            looks = 0
            while not self._ended.wait(HEARTBEAT):
                with contextlib.suppress(OSError):  # on a network folder: unreachable is not gone
                    looks = 0 if leader_lock.is_taken() else looks + 1
                    if looks == 2 and leader_lock.stops_on_close():
                        self._signalled = True

        threading.Thread(target=watch, name="leader", daemon=True).start()

    def failure_of_another(self, wait: bool) -> tuple[Problem, int] | None:
        """Why another process of this run failed, and its exit status, if the launcher says so. wait: it may be about
        to."""
        return self.leash.failure(wait) if self.leash else None

    def tell_launcher(self, problem: Problem, code: int, is_exchange: bool) -> None:
        """Tell the launcher of several processes that this one fails. See Leash.tell."""
        if self.leash:
            self.leash.tell(problem, code, is_exchange)

    def leave(self, code: int) -> None:
        """Tell the other processes that this one ends in order, with this exit status."""
        if self.leash:
            self.leash.leave(code)

    def rescue(self) -> None:
        """Note that this process saves what there is after a failure."""
        if self.leash:
            self.leash.rescue()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            with contextlib.suppress(OSError):  # a full disk must not end the heartbeat: the next save reports it
                self._write()

    def _write(self) -> None:
        with self._lock:
            self.run.write_state(**self._state, heartbeat=round(time.time(), 3))


class Nowhere(EventLog):
    """An event log that discards all events."""

    def append(self, type: str, **data: Any) -> dict[str, Any]:
        return {}


class Follower(Control):
    """The control of all but the first process of a distributed run, which reports and takes commands for all of
    them."""

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

    def failure_of_another(self, wait: bool) -> tuple[Problem, int] | None:
        known = super().failure_of_another(wait)  # meanwhile the first process may end in order, and this one with it
        return known if self.leash and self.leash.tells_all else None

    def tell_launcher(self, problem: Problem, code: int, is_exchange: bool) -> None:
        super().tell_launcher(problem, code, is_exchange)
        if self.leash:
            self.leash.wait()

    def _write(self) -> None:
        pass
