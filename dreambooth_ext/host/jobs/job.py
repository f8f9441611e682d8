"""One run's job in a thread of its own: hands the device over, starts and follows the worker, and settles the run."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ...core.errors import Problem
from ...core.messages.message import Message
from ...core.runs import job_options
from ...core.runs.run_folder import Run
from ...core.system.terminal import say_traceback
from ..environment.environment import Environment
from ..hosts.host import Host
from .job_monitor import JobMonitor
from .queue import Queue, status_of

POLL = 0.2  # seconds between looks at a run that trains
RECOVERY = 5.0  # seconds after an error of this program
FAULTS = (ValueError, LookupError, TypeError, AttributeError)  # what else a damaged folder of a run may come to


@dataclass
class JobContext:
    """State that the jobs of one dispatcher share."""

    queue: Queue
    environment: Environment
    host: Host
    settled: dict[str, int] = field(default_factory=dict)  # runs that need no second look -> their host.json's stamp
    links: dict[str, list[str]] = field(default_factory=dict)  # whole ones, by run; on no disk
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)  # of workers started here, by run

    def settle(self, monitor: JobMonitor) -> None:
        """Finish a run that has ended: after this it is done, and may be queued again."""
        with self.queue.changing():
            if monitor.settle():
                self.pass_over(monitor.run)
                self.processes.pop(monitor.run.id, None)

    def pass_over(self, run: Run) -> None:
        """Skip this run from now on, until its host.json changes."""
        self.settled[run.id] = job_options.stamp(run)

    def is_passed_over(self, run: Run) -> bool:
        return run.id in self.settled and self.settled[run.id] == job_options.stamp(run)

    def fail(self, monitor: JobMonitor, problem: Problem) -> None:
        """End a run that has not begun; `settle` must follow."""
        with self.queue.changing() as ids:
            if monitor.run.id in ids:
                ids.remove(monitor.run.id)
        monitor.fail(problem)
        monitor.finish()


class Job:
    """One run's job. `lives`: its worker is already running and only has to be followed. The thread calls `over` at the
    end."""

    def __init__(
        self,
        monitor: JobMonitor,
        devices: tuple[str, ...],
        context: JobContext,
        lives: bool,
        over: Callable[[], None] = lambda: None,
    ):
        self.monitor, self.devices, self.context, self.lives, self.over = monitor, devices, context, lives, over
        self.waits = "" if lives else Message("queue.handing_over")  # for what, before it begins
        self.since = time.time()
        self._thread: threading.Thread | None = None

    def start(self, closing: threading.Event) -> None:
        """`closing`: when it is set, the job leaves the worker running on its own."""
        name = f"dreambooth {self.monitor.run.id}"
        self._thread = threading.Thread(target=self._work, args=(closing,), name=name, daemon=True)
        self._thread.start()

    def is_over(self) -> bool:
        """Whether the job has ended and the host has its models back."""
        return self._thread is not None and not self._thread.is_alive()

    def join(self) -> None:
        if self._thread:
            self._thread.join()

    def has_device(self) -> bool:
        """Whether the run has the device, from the hand-over to its end; the host's models may not be back yet."""
        return not self.monitor.options.settled

    def _work(self, closing: threading.Event) -> None:
        try:
            self._go(closing)
        except OSError:  # a full disk, a lost network folder: the dispatcher says so, and follows it again
            closing.wait(RECOVERY)
        except Exception as error:  # of this program: the dispatcher tries again, unless the run's folder is damaged
            say_traceback(error)
            if self.lives and isinstance(error, FAULTS):
                self.context.pass_over(self.monitor.run)
            closing.wait(RECOVERY)
        finally:
            self.waits = ""
            self.over()

    def _go(self, closing: threading.Event) -> None:
        """Run the job. Its ending is recorded last: after publishing, selecting, and bringing the host's models
        back."""
        if not self.monitor.claim():
            return  # a terminal, or another host, has it
        try:
            if not self.lives and status_of(self.monitor.run) != "queued":
                return  # cancelled before it was claimed: it counts as stopped already
            with self._handed_over():
                self.waits = ""
                begun = self.lives or (not closing.is_set() and self._begin())
                ended = self._follow(closing) if begun else self.monitor.run.last_word() is not None
            if ended:
                self.context.settle(self.monitor)
        finally:
            self.monitor.release()

    def _begin(self) -> bool:
        """Start the worker, unless the run left the queue while the device was being handed over.

        If starting fails, the run ends as failed.
        """
        run, failure = self.monitor.run, None
        with self.context.queue.changing() as ids:
            if run.id not in ids or status_of(run) != "queued":
                return False
            try:
                given = self.context.links.get(run.id, ())
                self.context.processes[run.id] = self.monitor.start(self.context.environment, given)
                ids.remove(run.id)
                return True
            except OSError as error:
                failure = Problem("queue.not_started", "environment", error=error)
        self.context.fail(self.monitor, failure)
        return False

    @contextlib.contextmanager
    def _handed_over(self) -> Iterator[None]:
        """Keep the host's models off the device; if moving them fails, the run warns of it and continues."""
        host, monitor = self.context.host, self.monitor
        with contextlib.ExitStack() as stack:
            try:
                for device in self.devices:
                    stack.enter_context(host.handed_over(monitor.options.while_training, device))
            except Exception as error:  # a host's own code raises anything
                monitor.warn(Problem("queue.memory_kept", host=host.name, error=error))
            try:
                yield
            finally:
                try:
                    stack.close()
                except Exception as error:
                    monitor.warn(Problem("queue.models_not_back", host=host.name, error=error))

    def _follow(self, closing: threading.Event) -> bool:
        """Follow a worker to its end, or until this host closes; returns whether it has ended."""
        while True:
            ended = self.monitor.has_ended()
            self.monitor.look()
            if ended:
                self.monitor.finish()
                return True
            if closing.wait(POLL):
                return False
