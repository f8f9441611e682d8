"""Judges runs that have ended here while nothing else goes on."""

from __future__ import annotations

import contextlib
import threading
import time

from ...core.runs.run_folder import Run
from ...core.system.terminal import say_traceback
from ..environment.maintenance import Maintenance
from ..errors import Refusal
from ..hosts.host import Host
from ..jobs.dispatcher import Dispatcher
from ..runs.run_index import FAULTS
from .device_jobs import DeviceJobs, Job
from .verdicts import Verdicts

LOOK = 2.0  # seconds between looks
IDLE = 15.0  # seconds without a run or another job before it begins
REST = 300.0  # ... and after it has given way to somebody who draws
JUDGED = ("done", "stopped")


class IdleJudge:
    """A thread that has each run judged once after it has ended, unless the host's option `judge` is off."""

    def __init__(self, host: Host, dispatcher: Dispatcher, jobs: DeviceJobs, verdicts: Verdicts, upkeep: Maintenance):
        self.host, self.dispatcher, self.jobs, self.verdicts, self.upkeep = host, dispatcher, jobs, verdicts, upkeep
        self.idle, self.rest = IDLE, REST
        self._training: set[str] = set()
        self._due: list[str] = []  # runs, the oldest end first
        self._free = 0.0  # when it may begin, by time.monotonic
        self._job: Job | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if not self._thread:
            self._thread = threading.Thread(target=self._work, name="dreambooth judge", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._closing.set()

    def _work(self) -> None:
        while not self._closing.wait(min(LOOK, self.idle)):
            try:
                self.look()
            except Exception as error:  # of this program, or of a damaged run: the next is judged all the same
                say_traceback(error)

    def look(self) -> None:
        """Note what has ended, and begin what is due."""
        running = {run.id for run in self.dispatcher.running}
        self._due += sorted(self._training - running)
        self._training = running
        self._take_back()
        if self._job and self.host.is_wanted():
            self.jobs.give_way()
            self._free = time.monotonic() + self.rest
        if running or self.dispatcher.queue() or self.jobs.current:
            self._free = max(self._free, time.monotonic() + self.idle)
        elif not self.host.option("judge"):
            self._due.clear()
        elif self._due and time.monotonic() >= self._free and self.upkeep.is_ready():
            self._begin(Run(self.dispatcher.runs_dir / self._due.pop(0)))

    def _take_back(self) -> None:
        """A run whose judging gave way to something else is due again."""
        if self._job and self._job.state not in ("starting", "running"):
            if self._job.gave_way and self._job.state == "stopped":
                self._due.insert(0, self._job.task.of)
            self._job = None

    def _begin(self, run: Run) -> None:
        with contextlib.suppress(*FAULTS):  # deleted meanwhile, or damaged
            if run.state()["status"] not in JUDGED or not run.artifact_events() or self.verdicts.is_judged(run):
                return
            try:
                self._job = self.verdicts.judge_when_idle(run)
            except Refusal as error:
                if error.status == 409:  # somebody was quicker
                    self._due.insert(0, run.id)
