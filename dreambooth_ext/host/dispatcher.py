"""Trains what waits in the queue, one run at a time, and does with its models what their user wished."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import files, runs
from ..config import RunConfig
from ..errors import Problem, UserError
from ..protocol import ENDED
from ..runs import Run
from . import supervisor, wishes
from .environment import Environment
from .following import Following
from .interface import Host
from .publisher import Publisher
from .queue import Queue, is_of_this_machine, put_back, status_of, withdraw
from .watch import Patience
from .wishes import Wishes

IDLE = 1.0  # seconds between looks for what other processes have put into the folder
POLL = 0.2  # seconds between looks at a run that trains
RECOVERY = 5.0  # seconds after an error of this program
FAULTS = (ValueError, LookupError, TypeError, AttributeError)  # what else a damaged folder of a run may come to
CHOSEN = {"CPU only": "cpu", "Apple GPU (MPS)": "mps"}  # what "auto" is, by the environment's word for the device
REPAIR = "Repair it: the Environment part of the DreamBooth tab, or python -m dreambooth_ext env --repair. Then resume."


class Dispatcher:
    """Several hosts may share a folder of runs: one of them leads, and another takes over when it goes.

    All public methods may be called from any thread, before `start` and after `close`, too.
    """

    def __init__(self, runs_dir: Path, environment: Environment, host: Host, patience: Patience | None = None):
        self.runs_dir, self.environment, self.host = runs_dir, environment, host
        self.patience = patience or Patience()
        self.waiting = ""  # why the first of the queue is not trained yet, in words; "" if nothing waits
        self.leads = False  # whether this host starts the runs of this folder; if not, another one may
        self._queue = Queue(runs_dir)
        self._publisher = Publisher(host)
        self._following: Following | None = None  # the run that has the device
        self._elsewhere: Run | None = None  # the one that another host's dispatcher trains
        self._settled: set[str] = set()  # runs that need no second look
        self._processes: dict[str, subprocess.Popen] = {}  # of workers started here, by run: they outlast `close`
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._wake = threading.Event()

    # --- its life ---

    def start(self) -> None:
        """Begin to work, in a thread. Nothing happens if it works already."""
        with self._lock:
            if self._thread and self._thread.is_alive() and not self._closing.is_set():
                return
            self._closing = threading.Event()  # of its own: an older thread may still wait for the device
            work = threading.Thread(target=self._work, args=(self._closing,), name="dreambooth dispatcher", daemon=True)
            self._thread = work
            work.start()

    def close(self, patience: float = 5.0) -> None:
        """Stop working. The run goes on, or saves and stops, as the host's option `on_close` says.

        To be called when the program ends; one that ends without it has the same effect on the run.
        """
        self._closing.set()
        self._wake.set()
        following = self._following
        if following and self._stops_on_close() and not following.has_ended():
            with contextlib.suppress(OSError):  # on a full disk: the worker notices that we are gone all the same
                following.run.command("stop")
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(patience)

    def _stops_on_close(self) -> bool:
        return self.host.option("on_close") == "stop"

    # --- what pages show ---

    @property
    def active(self) -> Run | None:
        """The run that has the device, from its hand-over on."""
        following = self._following
        return following.run if following else self._elsewhere

    @property
    def trouble(self) -> dict[str, Any] | None:
        """The active run's worker does not answer or go on: {"what", "remedy", "n": the warning event's number}."""
        following = self._following
        return following.trouble if following else None

    @property
    def revision(self) -> int:
        """Grows with each publication and selection."""
        return self._publisher.revision

    @property
    def published(self) -> list[dict[str, Any]]:
        """The last few publications of this host: {"n", "run", "name", "kind", "path", "title", "selected"}."""
        return self._publisher.recent

    def queue(self) -> list[str]:
        """The ids of the runs that wait, in order."""
        waiting = (Run(self.runs_dir / id) for id in self._queue.ids())
        return [run.id for run in waiting if run.path.is_dir() and not self._has_device(run)]

    # --- what users ask for ---

    def submit(self, config: RunConfig, wanted: Wishes) -> Run:
        """Make a run, at the end of the queue."""
        run = runs.create(self.runs_dir, config)
        try:
            wanted.but(since=0, before=None, settled=False).write(run)
            self._queue.add(run.id)
        except OSError:  # a full disk: half made, it would seem to wait for ever
            run.delete()
            raise
        self._wake.set()
        return run

    def resume(self, run: Run, wanted: Wishes | None = None, total: int | None = None) -> None:
        """Put a run at the end of the queue again, to go on from its last checkpoint; up to step `total` if given.

        `wanted`: None for the wishes that it had. Raises UserError where there is nothing to go on with.
        """
        with self._queue.changing() as ids:
            if run.id in ids or self._has_device(run) or run.is_alive():
                why = f"{run.id} waits, trains or is still being published."
                raise UserError("run", why, "Wait for it, or stop it.")
            put_back(run, wanted, total)
            ids.append(run.id)
            self._settled.discard(run.id)
        self._wake.set()

    def order(self, ids: list[str]) -> None:
        """Train these first, in this order."""
        self._queue.arrange(ids)

    def cancel(self, run: Run) -> None:
        """Take a run out of the queue; one that has begun is stopped, with its state saved."""
        with self._queue.changing() as ids:
            if run.id in ids and status_of(run) == "queued":
                ids.remove(run.id)
                withdraw(run)
            elif status_of(run) in ENDED:
                raise UserError("run", f"{run.id} neither waits nor trains.", "There is nothing to stop.")
            else:
                run.command("stop")
        self._wake.set()

    def command(self, run: Run, command: str) -> None:
        """One of protocol.COMMANDS for a run that has begun; to stop one that waits is to cancel it."""
        if command in ("stop", "stop_and_save") and run.id in self._queue.ids():
            self.cancel(run)
        elif not self._has_device(run) and not run.is_alive():
            raise UserError("run", f"{run.id} does not train.", "Only a run that trains can do that; resume it first.")
        else:
            run.command(command)

    def kill(self, run: Run) -> None:
        """End the worker of a run that does not answer, at once and unsaved."""
        following = self._following
        if following and following.run.id == run.id and following.kill():
            return
        if not supervisor.kill_alive(run):
            raise UserError("run", f"{run.id} has no worker on this machine that could be ended.", "Reload the page.")

    def delete(self, run: Run) -> None:
        """Delete a run with all that it made, except what was published. Raises UserError if it waits or trains."""
        with self._queue.changing() as ids:
            if run.id in ids:
                raise UserError("run", f"{run.id} waits in the queue.", "Cancel it first.")
            if self._has_device(run) or run.is_alive():
                raise UserError("run", f"{run.id} is training.", "Stop it first.")
            try:
                run.delete()
            except OSError as error:
                remedy = "Close the programs that show its files, and delete it again."
                raise UserError("run", f"{run.id} could not be deleted ({error}).", remedy) from error

    def publish(self, run: Run, file: str, select: bool) -> Path:
        """Put one of the run's artifacts into the host's folders, also long after; returns where it is now."""
        for event in run.artifact_events():
            if event["file"] == file:
                return self._publisher.publish(run, event, select)
        raise UserError("artifact", f"{run.id} has no model '{file}'.", "Choose one that it lists.")

    def _has_device(self, run: Run) -> bool:
        """Whether we train it, from the hand-over to its end; the host may take its models back still."""
        following = self._following
        return following is not None and following.run.id == run.id and not following.wishes.settled

    # --- the thread ---

    def _work(self, closing: threading.Event) -> None:
        while not closing.is_set():
            try:
                lock = files.try_lock(self.runs_dir / "dispatcher.lock")
                if lock is None:
                    self._stand_by(closing)
                else:
                    with lock:
                        self._lead(closing)
            except OSError as error:  # a full disk, a network folder that is gone
                self.waiting = f"the folder of the runs cannot be used ({error})."
                closing.wait(RECOVERY)
            except Exception:  # of this program: whatever it is, the next runs are to be trained
                traceback.print_exc(file=sys.stderr)
                closing.wait(RECOVERY)

    def _stand_by(self, closing: threading.Event) -> None:
        """Another host leads: only show what it does."""
        self._elsewhere = next((run for run in self._alive() if wishes.read(run)), None)
        self.waiting = "another WebUI with the same folder of runs starts them." if self._queue.ids() else ""
        self._sleep(closing, IDLE)

    def _lead(self, closing: threading.Event) -> None:
        self.leads, self._elsewhere = True, None
        try:
            while not closing.is_set():
                if not self._attend_to_unsettled(closing) and not self._train_next(closing):
                    self._sleep(closing, IDLE)
        finally:
            self.leads = False

    def _sleep(self, closing: threading.Event, seconds: float) -> None:
        self._wake.wait(seconds)
        if not closing.is_set():
            self._wake.clear()

    def _attend_to_unsettled(self, closing: threading.Event) -> bool:
        """Runs that were left by a host that went, or by the one that led before. True if one was followed."""
        waiting = self._queue.ids()
        for run in reversed(runs.list_runs(self.runs_dir)):
            wanted = wishes.read(run) if run.id not in self._settled else None
            if wanted is None:
                continue
            try:
                if self._attend_to(run, wanted, waiting, closing):
                    return True
            except FAULTS:  # it must not keep the others from being trained
                traceback.print_exc(file=sys.stderr)
                self._settled.add(run.id)
        return False

    def _attend_to(self, run: Run, wanted: Wishes, waiting: list[str], closing: threading.Event) -> bool:
        process = self._processes.get(run.id)
        if wanted.settled:
            self._settled.add(run.id)
        elif files.is_locked(run.path / "worker.lock") or (process and process.poll() is None):
            self._adopt(run, wanted, closing)
            return True
        elif status_of(run) == "queued":
            if run.id not in waiting:  # its host went while it put it there
                self._queue.add(run.id)
        elif is_of_this_machine(run):
            self._settle(Following(run, wanted, self._publisher, self.patience))
        return False

    def _adopt(self, run: Run, wanted: Wishes, closing: threading.Event) -> None:
        """Follow a worker that lives already."""
        following = Following(run, wanted, self._publisher, self.patience, self._processes.get(run.id))
        self._following, self.waiting = following, ""
        try:
            with self._handed_over(following):
                self._follow(following, closing)
        finally:
            self._following = None

    # --- the next one ---

    def _train_next(self, closing: threading.Event) -> bool:
        """Train the first of the queue to its end. False if there is none that can be begun."""
        run = self._first()
        self.waiting = self._obstacle(run) if run else ""
        if run is None or self.waiting:
            return False
        wanted = wishes.read(run) or Wishes()
        following = Following(run, wanted, self._publisher, self.patience)
        self._following = following
        self._settled.discard(run.id)
        try:
            problem = self._environment_problem()
            if problem:
                self._fail(following, problem)
                return True
            self.waiting = "the device is being handed over."
            with self._handed_over(following):
                self.waiting = ""
                if not closing.is_set() and self._begin(following):
                    self._follow(following, closing)
        finally:
            self._following = None
        return True

    def _first(self) -> Run | None:
        """The first that waits. What was deleted, or trained from a terminal meanwhile, leaves the queue."""
        with self._queue.changing() as ids:
            ids[:] = [id for id in ids if status_of(Run(self.runs_dir / id)) == "queued"]
            return Run(self.runs_dir / ids[0]) if ids else None

    def _obstacle(self, run: Run) -> str:
        """Why a run cannot be begun now, "" if it can."""
        if files.is_locked(self.environment.folder / "build.lock"):
            return "the trainer's environment is being made."
        mine = self._device(run)
        for other in self._alive():
            if other.id != run.id and self._device(other) == mine:
                return f"{other.id}, which was started elsewhere, has the device."
        return ""

    def _alive(self) -> Iterator[Run]:
        """Runs with a worker on this machine, whoever started it."""
        return (run for run in runs.list_runs(self.runs_dir) if files.is_locked(run.path / "worker.lock"))

    def _device(self, run: Run) -> str:
        try:
            wanted = run.config.device
        except UserError:
            wanted = "auto"
        if wanted == "auto":
            wanted = CHOSEN.get(self.environment.status().device, "cuda")
        return "cuda:0" if wanted == "cuda" else wanted

    def _environment_problem(self) -> Problem | None:
        status = self.environment.status()
        if status.state == "ready":
            return None
        return Problem("environment", f"The trainer's environment is {status.state}. {status.reason}", REPAIR)

    def _begin(self, following: Following) -> bool:
        """Start the worker, unless the run was taken out of the queue while the device was being handed over."""
        run, failure = following.run, None
        with self._queue.changing() as ids:
            if run.id not in ids or status_of(run) != "queued":
                return False
            try:
                self._processes[run.id] = following.start(self.environment, tied=self._stops_on_close())
                ids.remove(run.id)
                return True
            except OSError as error:
                failure = Problem("environment", f"The training process could not be started ({error}).", REPAIR)
        self._fail(following, failure)
        return False

    def _fail(self, following: Following, problem: Problem) -> None:
        """End a run that has not begun."""
        with self._queue.changing() as ids:
            if following.run.id in ids:
                ids.remove(following.run.id)
        following.fail(problem)
        self._settle(following)

    @contextlib.contextmanager
    def _handed_over(self, following: Following) -> Iterator[None]:
        """The host's models off the device; what fails in moving them is told by the run, and does not end it."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.host.handed_over(following.wishes.while_training))
            except Exception as error:  # a host's own code raises anything
                remedy = "If memory is short now, stop this run and restart the WebUI."
                following.warn(f"{self.host.name} could not free its memory for the training ({error}).", remedy)
            try:
                yield
            finally:
                try:
                    stack.close()
                except Exception as error:
                    message = f"{self.host.name} could not take its models back ({error})."
                    following.warn(message, "Choose a model there again.")

    def _follow(self, following: Following, closing: threading.Event) -> None:
        """Stay with a worker to its end, or leave it when this host closes."""
        while True:
            ended = following.has_ended()
            following.look()
            if ended:
                self._settle(following)
                return
            if closing.is_set():
                return
            self._sleep(closing, POLL)

    def _settle(self, following: Following) -> None:
        following.finish()
        with self._queue.changing():
            if following.settle():
                self._settled.add(following.run.id)
                self._processes.pop(following.run.id, None)
