"""Trains queued runs, one at a time on each device, and publishes their models."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.config import links
from ...core.config.parsing import shown
from ...core.config.run_config import RunConfig
from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.runs import job_options, run_folder, run_list, training_states
from ...core.runs.events import ENDED
from ...core.runs.job_options import JobOptions
from ...core.runs.leader_lock import LeaderLock
from ...core.runs.run_folder import Run
from ...core.system.terminal import say, say_traceback
from ..environment.environment import Environment
from ..hosts.host import Host
from ..publishing.publisher import Publisher
from . import worker_process
from .allocation import Allocation
from .devices import Devices
from .job import FAULTS, RECOVERY, JobContext
from .job_monitor import JobMonitor
from .loans import Loan
from .queue import Queue, cancel, is_of_this_machine, put_back, status_of
from .running_jobs import RunningJobs
from .watchdog import Patience

IDLE = 1.0  # seconds between looks for what other processes have put into the folder


class Dispatcher:
    """Runs the queue of a folder of runs. Several hosts may share it: one leads, and another takes over when it closes.

    All public methods may be called from any thread, also before `start` and after `close`.
    """

    def __init__(self, runs_dir: Path, environment: Environment, host: Host, patience: Patience | None = None):
        self.runs_dir, self.environment, self.host = runs_dir, environment, host
        self.patience = patience or Patience()
        self.leads = False  # whether this host starts the runs of this folder; if not, another one may
        self._leader_lock = LeaderLock(runs_dir)
        self._queue = Queue(runs_dir)
        self._publisher = Publisher(host)
        self._context = JobContext(self._queue, environment, host)  # outlasts `close`
        self._devices = Devices(environment)
        self._elsewhere: list[Run] = []  # those that another host's dispatcher trains
        self._hindrance = ""  # why the first that waits is not trained yet
        self._passed_over: set[str] = set()  # runs of another user that were already reported
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._jobs = RunningJobs(self._context, self._publisher, self.patience, over=self._wake.set)
        self._allocation = Allocation(runs_dir, self._context, self._jobs, self._devices, self._another_leads)

    # --- its life ---

    def start(self) -> None:
        """Start working in a thread, unless it already does."""
        with self._lock:
            if self._thread and self._thread.is_alive() and not self._closing.is_set():
                return
            self._closing = threading.Event()  # of its own: an older thread may still wait for the device
            work = threading.Thread(target=self._work, args=(self._closing,), name="dreambooth dispatcher", daemon=True)
            self._thread = work
            work.start()

    def close(self, patience: float = 5.0) -> None:
        """Stop working. Runs continue, or save and stop, as the host's option `on_close` says.

        To be called when the program ends; if it ends without this call, the effect on the runs is the same.
        """
        self._closing.set()
        self._wake.set()
        for job in self._jobs if self._stops_on_close() else []:
            with contextlib.suppress(OSError):  # on a full disk: the worker notices that we are gone all the same
                if not job.monitor.has_ended():
                    job.monitor.run.command("stop")
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(patience)

    def _stops_on_close(self) -> bool:
        return self.host.option("on_close") == "stop"

    # --- what pages show ---

    @property
    def running(self) -> list[Run]:
        """The runs that have a device, from the hand-over until their end is recorded, in the order in which they
        began."""
        ours = [job.monitor.run for job in self._jobs]
        return [run for run in ours if status_of(run) not in ENDED] or self._elsewhere

    @property
    def active(self) -> Run | None:
        """The last run of `running`."""
        running = self.running
        return running[-1] if running else None

    def trouble(self, run: Run) -> dict[str, Any] | None:
        """Why its worker does not respond or progress: {"what", "remedy", "n": the warning event's number}; None if it
        does."""
        job = self._jobs.of(run)
        return job.monitor.trouble if job else None

    def left(self, run: Run) -> float | None:
        """Seconds that its worker expects to train still; None before it says so, and for another host's run."""
        job = self._jobs.of(run)
        return job.monitor.left() if job else None

    def since(self, run: Run) -> float | None:
        """When the hand-over of its device began, in seconds since 1970; None for another host's run."""
        job = self._jobs.of(run)
        return job.since if job else None

    @property
    def waiting(self) -> str:
        """Why the first run in the queue has not started yet; "" if none waits, or only for another run to end."""
        return next((job.waits for job in self._jobs if job.waits), self._hindrance)

    @property
    def revision(self) -> int:
        """A number that grows with each publication and selection."""
        return self._publisher.revision

    @property
    def published(self) -> list[dict[str, Any]]:
        """This host's last publications: {"n", "run", "name", "kind", "path", "title", "selected"}."""
        return self._publisher.recent

    @property
    def is_paused(self) -> bool:
        """Whether nothing that waits is started."""
        return self._queue.is_paused

    def devices(self, run: Run) -> tuple[str, ...]:
        """What it trains on, by the one name of each device."""
        return self._devices.of(run)

    def device_called(self, wanted: str) -> str:
        """The one name of a device that a setting names: of "auto" the one that is chosen then."""
        return self._devices.called(wanted)

    def waiting_since(self) -> dict[str, float]:
        """By run that waits, in seconds since 1970."""
        return self._queue.since()

    def queue(self) -> list[str]:
        """The ids of the waiting runs, in order."""
        return self._allocation.waiting()

    # --- what users ask for ---

    def submit(self, config: RunConfig, wanted: JobOptions) -> Run:
        """Create a run at the end of the queue."""
        places = {kind: str(folder) for kind, folder in self.host.folders().items()}
        fresh = wanted.but(host_folders=places, by_terminal=False, since=0, before=None, settled=False)
        run = run_folder.create(self.runs_dir, config, fresh.as_dict())
        try:
            self.remember(run, links.of(config))
            self._queue.add(run.id)
        except OSError:  # a full disk: half made, it would seem to wait for ever
            run.delete()
            raise
        self._wake.set()
        return run

    def resume(self, run: Run, wanted: JobOptions | None = None, total: int | None = None) -> None:
        """Put a run at the end of the queue again, to resume from its last training state, up to step `total` if given.

        `wanted`: new publishing options; None keeps the old ones. Raises UserError if there is nothing to resume.
        """
        with self._queue.changing() as ids:
            if run.id in ids or self._jobs.has_device(run) or run.is_alive():
                raise UserError("queue.busy", "run", run=run.id)
            put_back(run, wanted, total)
            ids.append(run.id)
            self._context.settled.pop(run.id, None)
        self._wake.set()

    def remember(self, run: Run, given: list[str]) -> None:
        """Keep the whole links for the run's worker, in memory only, because they hold secrets."""
        if given:
            self._context.links[run.id] = given

    def order(self, ids: list[str]) -> None:
        """Move these runs to the front of the queue, in this order."""
        self._queue.arrange(ids)

    def pause(self, paused: bool) -> None:
        """Start nothing more until further notice, or go on; what trains is left alone. Outlasts this program."""
        self._queue.pause(paused)
        self._wake.set()

    def cancel(self, run: Run) -> None:
        """Take a run out of the queue; one that has begun is stopped, and saves its state."""
        cancel(self._queue, run)
        self._wake.set()

    def command(self, run: Run, command: str) -> None:
        """Send one of events.COMMANDS to a run that has begun; stopping a waiting run cancels it."""
        if command in ("stop", "stop_and_save") and run.id in self._queue.ids():
            self.cancel(run)
        elif not self._jobs.has_device(run) and not run.is_alive():
            raise UserError("queue.not_training", "run", run=run.id)
        else:
            run.command(command)

    def kill(self, run: Run) -> None:
        """Kill the worker of a run that does not respond, without saving."""
        job = self._jobs.of(run)
        if job and job.monitor.kill():
            return
        if not worker_process.kill_alive(run):
            raise UserError("queue.no_worker", "run", run=run.id)

    def delete(self, run: Run) -> None:
        """Delete a run with everything it made, except published models. Raises UserError if it waits or trains."""
        with self._queue.changing() as ids:
            self._check_idle(run, ids)
            try:
                run.delete()
                self._context.links.pop(run.id, None)
            except OSError as error:
                raise UserError("queue.not_deleted", "run", run=run.id, error=error) from error

    def delete_states(self, run: Run) -> int:
        """Delete a run's training states alone; returns the bytes that this frees. Raises UserError where they are
        needed still."""
        with self._queue.changing() as ids:
            self._check_idle(run, ids)
            return training_states.delete(run)

    def _check_idle(self, run: Run, waiting: list[str]) -> None:
        """Raise UserError if it waits or trains. The queue must be held."""
        if run.id in waiting:
            raise UserError("queue.waits", "run", run=run.id)
        if self._jobs.has_device(run) or run.is_alive():
            raise UserError("queue.training", "run", run=run.id)

    def publish(self, run: Run, file: str, select: bool) -> Path:
        """Publish one of the run's artifacts into the host's folders, at any time; returns its path there."""
        for event in run.artifact_events():
            if event["file"] == file:
                return self._publisher.publish(run, event, select)
        raise UserError("service.no_model", "artifact", run=run.id, file=shown(file))

    def unpublish(self, run: Run, file: str, path: Path) -> list[str]:
        """Remove one of the run's artifacts from the host's folders; returns what was deleted. Raises a Refusal."""
        event = next(event for event in run.artifact_events() if event["file"] == file)
        return self._publisher.unpublish(run, event, path)

    # --- devices for others than runs ---

    def lend(self, loan: Loan) -> None:
        """Start no run on the loan's device until it is given back. Raises a Refusal (409) if a run has the device, or
        waits for it."""
        self._allocation.lend(loan)

    def give_back(self, loan: Loan) -> None:
        self._allocation.give_back(loan)
        self._wake.set()

    def _another_leads(self) -> bool:
        return not self.leads and self._leader_lock.is_taken()

    # --- the thread ---

    def _work(self, closing: threading.Event) -> None:
        while not closing.is_set():
            with self._recovering(closing):
                lock = self._leader_lock.take()
                if lock is None:
                    self._stand_by(closing)
                else:
                    with lock:
                        self._lead(closing)

    @contextlib.contextmanager
    def _recovering(self, closing: threading.Event) -> Iterator[None]:
        """Report errors raised inside, and wait before the next try."""
        try:
            yield
        except OSError as error:  # a full disk, a lost network folder
            self._hindrance = Message("queue.runs_folder", error=error)
            closing.wait(RECOVERY)
        except Exception as error:  # of this program: whatever it is, the next runs are to be trained
            say_traceback(error)
            closing.wait(RECOVERY)

    def _stand_by(self, closing: threading.Event) -> None:
        """Show what the leading host does, while another one leads."""
        self._elsewhere = [
            run for run in reversed(list(self._allocation.alive())) if is_a_host_s(job_options.read(run))
        ]
        self._hindrance = Message("queue.other_host") if self._queue.ids() else ""
        self._sleep(closing)

    def _lead(self, closing: threading.Event) -> None:
        """Run the queue until this host closes; a worker that sees no leader concludes that its host has ended."""
        self.leads, self._elsewhere = True, []
        self._publisher.sweep()
        try:
            while not closing.is_set():
                with self._recovering(closing):
                    self._leader_lock.wish(self._stops_on_close())
                    self._attend_to_unsettled(closing)
                    self._hindrance = self._allocation.train_next(closing)
                    self._sleep(closing)
                self._jobs.forget()
        finally:
            self._jobs.join()
            self._jobs.forget()
            self.leads = False

    def _sleep(self, closing: threading.Event) -> None:
        self._wake.wait(IDLE)
        if not closing.is_set():
            self._wake.clear()

    # --- those that live, and those that ended without us ---

    def _attend_to_unsettled(self, closing: threading.Event) -> None:
        """Take care of runs left by a host that closed, or by the former leader."""
        waiting = self._queue.ids()
        for run in reversed(run_list.list_runs(self.runs_dir)):
            if self._jobs.of(run) or self._context.is_passed_over(run):
                continue
            wanted = job_options.read(run)
            try:
                if wanted:
                    self._attend_to(run, wanted, waiting, closing)
            except PermissionError as error:  # another user's, or open in a program; neither are these to hinder others
                if run.id not in self._passed_over:
                    say(f"DreamBooth: the run {run.id} is skipped for now ({error}).")
                self._passed_over.add(run.id)
            except FAULTS as error:  # it must not keep the others from being trained
                say_traceback(error)
                self._context.pass_over(run)

    def _attend_to(self, run: Run, wanted: JobOptions, waiting: list[str], closing: threading.Event) -> None:
        process = self._context.processes.get(run.id)
        if wanted.settled:
            self._context.pass_over(run)
        elif run.is_followed() or (wanted.by_terminal and (run.is_held() or status_of(run) == "queued")):
            pass  # a terminal has it, or another host that is just going
        elif run.is_held() or (process and process.poll() is None):
            monitor = self._jobs.monitor(run, wanted, process)
            self._jobs.start(monitor, self._devices.of(run), closing, lives=True)
        elif status_of(run) == "queued":
            if run.id not in waiting:  # its host closed while it was putting it there
                self._queue.add(run.id)
        elif is_of_this_machine(run):
            self._settle(self._jobs.monitor(run, wanted))

    def _settle(self, monitor: JobMonitor) -> None:
        """Publish what is left of a run that has ended, and record its end."""
        if monitor.claim():
            try:
                monitor.finish()
                self._context.settle(monitor)
            finally:
                monitor.release()


def is_a_host_s(wanted: JobOptions | None) -> bool:
    """Whether a host, not a terminal, starts and follows the run."""
    return wanted is not None and not wanted.by_terminal
