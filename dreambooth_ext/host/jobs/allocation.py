"""Who gets a device: the runs that wait, in their order, or something else that borrows one while no run needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ...core.errors import Problem
from ...core.messages.message import Message
from ...core.runs import job_options, run_list
from ...core.runs.job_options import JobOptions
from ...core.runs.run_folder import Run
from ...core.system import files
from ..errors import Refusal
from .devices import Devices
from .job import JobContext
from .loans import Loan, Loans
from .queue import status_of
from .running_jobs import RunningJobs


class Allocation:
    """The devices of one dispatcher's runs. Loans may be taken and given back from any thread.

    another_leads: whether another host starts the runs of this folder.
    """

    def __init__(
        self,
        runs_dir: Path,
        context: JobContext,
        jobs: RunningJobs,
        devices: Devices,
        another_leads: Callable[[], bool],
    ):
        self._runs_dir, self._context, self._jobs, self._devices = runs_dir, context, jobs, devices
        self._another_leads = another_leads
        self._loans = Loans()
        self._giving = threading.Lock()  # a device to a run, or to something else

    def waiting(self) -> list[str]:
        """The ids of the waiting runs, in order."""
        runs = (Run(self._runs_dir / id) for id in self._context.queue.ids())
        return [run.id for run in runs if run.path.is_dir() and not self._jobs.has_device(run)]

    def alive(self) -> Iterator[Run]:
        """Runs with a worker on this machine, whoever started it."""
        return (run for run in run_list.list_runs(self._runs_dir) if run.is_held())

    # --- for others than runs ---

    def lend(self, loan: Loan) -> None:
        """Start no run on the loan's device until it is given back. Raises a Refusal (409) if a run has the device, or
        waits for it."""
        with self._giving:
            self._check_free(loan.device)
            self._loans.take(loan)

    def give_back(self, loan: Loan) -> None:
        with self._giving:
            self._loans.give_back(loan)

    def _check_free(self, device: str) -> None:
        having = [job.monitor.run for job in self._jobs if device in job.devices and not job.is_over()]
        others = [run for run in self.alive() if device in self._devices.of(run)]
        if run := next(iter([*having, *others]), None):
            raise Refusal(409, "drawing.run_trains", "device", run=run.id)
        if self._another_leads():
            raise Refusal(409, "drawing.other_host", "device")
        waiting = () if self._context.queue.is_paused else self.waiting()
        if id := next((id for id in waiting if device in self._devices.of(Run(self._runs_dir / id))), ""):
            raise Refusal(409, "drawing.run_waits", "device", run=id)

    # --- for runs ---

    def train_next(self, closing: threading.Event) -> str:
        """Start every waiting run whose devices are free; return why the first one that waits cannot start, "" if
        none waits, or only for another run to end."""
        waiting = self.sweep_queue()
        if not waiting:
            return ""
        if self._context.queue.is_paused:
            return Message("queue.paused")
        if files.is_locked(self._context.environment.folder / "build.lock"):
            return Message("queue.environment_in_the_making")
        ours = self._jobs.devices()
        others: dict[str, list[str]] = {}  # by device; started by a terminal, say
        if any(ours.isdisjoint(self._devices.of(run)) for run in waiting):
            for other in self.alive():
                for device in self._devices.of(other):
                    others.setdefault(device, []).append(other.id)
        reasons = []
        for run in waiting:
            devices = self._devices.of(run)
            with self._giving:
                is_free = ours.isdisjoint(devices)
                reasons.append(self._obstacle(run, devices, others) if is_free else "")
                has_begun = is_free and not reasons[-1] and self._train(run, devices, closing)
            if has_begun or len(devices) > 1:  # else later runs on one card would always be before it
                ours.update(devices)
        return reasons[0]

    def sweep_queue(self) -> list[Run]:
        """Take runs that were deleted, or trained from a terminal meanwhile, out of the queue. Returns those that wait
        still, in order."""
        with self._context.queue.changing() as ids:
            ids[:] = [id for id in ids if status_of(Run(self._runs_dir / id)) == "queued"]
            return [Run(self._runs_dir / id) for id in ids]

    def _obstacle(self, run: Run, devices: tuple[str, ...], others: dict[str, list[str]]) -> str:
        """Why a run cannot start now although this host trains nothing on its devices; "" if it can."""
        if lent := next(filter(None, map(self._loans.claimed, devices)), ""):
            return lent
        other = next((id for device in devices for id in others.get(device, ()) if id != run.id), "")
        if other:
            return Message("queue.device_taken", run=other)
        if run.is_followed():
            return Message("queue.in_terminal", run=run.id)
        try:
            lock = run.take(patience=0)  # its folder may be another user's
        except OSError as error:
            return Message("queue.run_folder", run=run.id, error=error)
        if lock:
            lock.close()
        return ""

    def _train(self, run: Run, devices: tuple[str, ...], closing: threading.Event) -> bool:
        """Start a run; False if the environment is not ready."""
        monitor = self._jobs.monitor(run, job_options.read(run) or JobOptions())
        self._context.settled.pop(run.id, None)
        status = self._context.environment.status()
        if status.state != "ready":
            self._context.fail(monitor, Problem("queue.environment", "environment", reason=status.reason))
            self._context.settle(monitor)
            return False
        self._jobs.start(monitor, devices, closing, lives=False)
        return True
