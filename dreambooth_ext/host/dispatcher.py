"""Trains what waits in the queue, one run at a time, and does with its models what their user wished."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import RunConfig
from ..runs import Run
from .environment import Environment
from .wishes import Wishes

if TYPE_CHECKING:
    from .webui import Host


class Dispatcher:
    """Several hosts may share a folder of runs: one of them leads, and another takes over when it goes.

    All public methods may be called from any thread, before `start` and after `close`, too.
    """

    def __init__(self, runs_dir: Path, environment: Environment, host: Host):
        self.runs_dir, self.environment, self.host = runs_dir, environment, host
        self.revision = 0  # grows with each publication and selection
        self.published: list[dict[str, Any]] = []  # the last few: {"n", "kind", "path", "title", "selected"}
        self.waiting = ""  # why the first of the queue is not trained yet, in words; "" if nothing waits
        self.trouble: dict[str, Any] | None = None  # the active run does not answer: {"what", "remedy"}

    def start(self) -> None:
        """Begin to work, in a thread. Nothing happens if it works already."""

    def close(self) -> None:
        """Stop working. The run goes on, or saves and stops, as the host's option `on_close` says."""

    @property
    def active(self) -> Run | None:
        """The run that has the device, from its hand-over on."""

    @property
    def leads(self) -> bool:
        """Whether this host starts the runs of this folder; if not, another one does."""

    def queue(self) -> list[str]:
        """The ids of the runs that wait, in order."""

    def submit(self, config: RunConfig, wishes: Wishes) -> Run:
        """Make a run, at the end of the queue."""

    def resume(self, run: Run, wishes: Wishes | None = None, total: int | None = None) -> None:
        """Put a run at the end of the queue again, to go on from its last checkpoint; up to step `total` if given.

        `wishes`: None for those that it had. Raises UserError where there is nothing to go on with.
        """

    def order(self, ids: list[str]) -> None:
        """Train these first, in this order."""

    def cancel(self, run: Run) -> None:
        """Take a run out of the queue; one that has begun is stopped, with its state saved."""

    def command(self, run: Run, command: str) -> None:
        """One of protocol.COMMANDS for a run that is alive; to stop one that waits is to cancel it."""

    def kill(self, run: Run) -> None:
        """End the worker of a run that does not answer, at once and unsaved."""

    def delete(self, run: Run) -> None:
        """Delete a run with all that it made, except what was published. Raises UserError if it waits or trains."""

    def publish(self, run: Run, file: str, select: bool) -> Path:
        """Put one of the run's artifacts into the host's folders, also long after; returns where it is now."""
