"""The jobs of the runs that have a device: all that one dispatcher has begun and that are not over."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator

from ...core.runs.job_options import JobOptions
from ...core.runs.run_folder import Run
from ..publishing.publisher import Publisher
from .job import Job, JobContext
from .job_monitor import JobMonitor
from .watchdog import Patience


class RunningJobs:
    """In the order in which they began; may be asked from any thread. over: called when one has ended."""

    def __init__(self, context: JobContext, publisher: Publisher, patience: Patience, over: Callable[[], None]):
        self._context, self._publisher, self._patience, self._over = context, publisher, patience, over
        self._by_run: dict[str, Job] = {}

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._by_run.values()))

    def of(self, run: Run) -> Job | None:
        return self._by_run.get(run.id)

    def has_device(self, run: Run) -> bool:
        """Whether this host trains it, from the hand-over to its end; the host's models may not be back yet."""
        job = self.of(run)
        return job is not None and job.has_device()

    def devices(self) -> set[str]:
        """Those that no other run can have: until a job is over, the host's models may not be back."""
        return {device for job in self for device in job.devices}

    def monitor(self, run: Run, options: JobOptions, process: subprocess.Popen | None = None) -> JobMonitor:
        """What watches a run, with or without a job. process: its worker, if this program started it."""
        return JobMonitor(run, options, self._publisher, self._patience, process)

    def start(self, monitor: JobMonitor, devices: tuple[str, ...], closing: threading.Event, lives: bool) -> None:
        """Begin a job. lives: its worker is already running."""
        job = Job(monitor, devices, self._context, lives, self._over)
        self._by_run[monitor.run.id] = job
        job.start(closing)

    def join(self) -> None:
        """Wait until all are over."""
        for job in self:
            job.join()

    def forget(self) -> None:
        """Drop those that are over."""
        for job in self:
            if job.is_over():
                del self._by_run[job.monitor.run.id]
