"""Watches one run while it has the device: its worker, events, health, and what is left to publish at the end."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterable
from typing import IO, Any

from ...core.errors import Problem
from ...core.runs import conclusion
from ...core.runs.events import ENDED, EventReader
from ...core.runs.job_options import JobOptions, read
from ...core.runs.run_folder import Run
from ..environment.environment import Environment
from ..publishing.publisher import Announced, Publisher
from . import exit_reasons, worker_process
from .queue import read_state, status_of
from .watchdog import Patience, Watchdog

GRACE = 3.0  # seconds in which a worker that was started besides the one that ended has to show itself


class JobMonitor:
    """Watches one run. process: the worker's, if this program started it; otherwise only the run's lock shows whether
    it lives."""

    def __init__(
        self,
        run: Run,
        options: JobOptions,
        publisher: Publisher,
        patience: Patience,
        process: subprocess.Popen | None = None,
    ):
        self.run, self.options, self.publisher, self.process = run, options, publisher, process
        self.trouble: dict[str, Any] | None = None
        self._events = EventReader(run.path / "events.jsonl")
        self._announced = Announced(options)
        self._watchdog = Watchdog(patience)
        self._log_from = 0
        self._pace: tuple[float, float] | None = None  # when the worker expected to be done in how many seconds
        self._killed = False
        self._claim: IO[bytes] | None = None

    def claim(self) -> bool:
        """Claim the run, in order to publish its models and record its end. False if another process has it.

        Its options are read only now: a terminal may just have changed its folder.
        """
        self._claim = self.run.claim()
        if self._claim:
            self.options = read(self.run) or self.options
            self._announced = Announced(self.options)
        return self._claim is not None

    def release(self) -> None:
        if self._claim:
            self._claim.close()

    # --- the worker ---

    def start(self, environment: Environment, given: Iterable[str] = ()) -> subprocess.Popen:
        """Start the run's worker with these whole links. Raises OSError if the system refuses."""
        log = self.run.path / "log.txt"
        self._log_from = log.stat().st_size if log.exists() else 0
        self.process = worker_process.start(self.run, environment, self.options.total, led=True, given=given)
        return self.process

    def has_ended(self) -> bool:
        """Whether no worker has the run; one that exits because another has it does not count."""
        if self.process and self.process.poll() is None:
            return False
        return not self.run.is_held()

    def kill(self) -> bool:
        """Kill the worker; False if there is none that could be killed."""
        self._killed = True
        if self.process and self.process.poll() is None:
            worker_process.kill(self.process)
            return True
        self._killed = worker_process.kill_alive(self.run)
        return self._killed

    # --- what it says ---

    def left(self) -> float | None:
        """Seconds to the last step, by what it said last; None before its first steps."""
        return self._pace and max(0.0, self._pace[1] - (time.time() - self._pace[0]))

    def look(self) -> None:
        """Publish the models announced since the last call, and check the worker's health."""
        events = self._events.new()
        self._announced.note(events)
        for event in events:
            if event["type"] == "step" and isinstance(event.get("eta_s"), int | float):
                self._pace = event.get("time") or time.time(), float(event["eta_s"])
        self.publisher.publish_wanted(self.run, self.options, self._announced.take())
        self._watchdog.see(events, read_state(self.run).get("heartbeat"))
        self._tell(self._watchdog.trouble())

    def _tell(self, problem: Problem | None) -> None:
        """Append a warning event when trouble begins, and a status event that clears it when it is over."""
        with contextlib.suppress(OSError):
            if problem and not self.trouble:
                n = self.warn(problem)
                self.trouble = {"n": n, **problem.as_event()}
            elif self.trouble and not problem:
                try:
                    self.run.events.append("status", status=status_of(self.run), clears=self._warning())
                finally:
                    self.trouble = None

    def _warning(self) -> int:
        """The number of the trouble's warning event, which may have been postponed (see EventLog)."""
        known = self.trouble or {"n": 0, "what": ""}
        warnings = (event for event in self.run.events.read() if event.get("what") == known["what"])
        return known["n"] or max((event["n"] for event in warnings), default=0)

    def warn(self, problem: Problem) -> int:
        """Append a warning event and return its number; 0 if it cannot be written, or the run was deleted."""
        if not status_of(self.run):
            return 0
        with contextlib.suppress(OSError):
            return self.run.events.append("warning", **problem.as_event())["n"]
        return 0

    # --- its end ---

    def fail(self, problem: Problem) -> None:
        """Record that a run failed whose worker ended or never started. Does nothing if it is running, here or
        elsewhere."""
        if not status_of(self.run):
            return  # its folder is gone
        conclusion.write_saving(self.run)
        status = status_of(self.run)
        lock = self.run.take(GRACE)
        if lock is None:
            return
        with lock:
            if status in ENDED or status_of(self.run) != status:
                return
            about = problem.as_dict()
            self.run.events.append("error", **problem.as_event(), why=str(problem))
            self.run.end("failed", problem=about, problems=[about])

    def finish(self) -> None:
        """After the worker's end, publish what is left, and record why it ended, unless the worker did.

        A waiting run has no worker yet, unless we started it: somebody has just queued it again.
        """
        self.run.events.catch_up()
        self.look()
        waits = self.process is None and status_of(self.run) == "queued"
        if status_of(self.run) not in ENDED and not waits and not self.run.last_word():
            code = self.process.poll() if self.process else None
            began = read_state(self.run).get("heartbeat") is not None
            self.fail(exit_reasons.explain(self.run, code, self._log_from, began, self._killed))

    def settle(self) -> bool:
        """Record how the run ended and that nothing is left to publish.

        The queue must be held, since the run may be queued again. False if it is running, here or elsewhere.
        """
        if not conclusion.conclude(self.run) or status_of(self.run) not in ENDED:
            return False
        settled = self.options.but(settled=True)
        settled.write(self.run)
        self.options = settled  # only now may it be put back
        return True
