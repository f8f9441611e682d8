"""Builds, repairs and verifies the trainer's environment in the background, one action at a time."""

from __future__ import annotations

import threading
import time
from typing import Any

from ...core.config.parsing import shown
from ...core.errors import Problem, UserError
from ...core.messages.message import Message, beside
from ...core.system import files
from ...core.system.terminal import Stages, silent
from ..errors import Refusal
from .environment import Environment, Status, failure_of
from .pip_runner import Cancelled, running_inside

ACTIONS = ("repair", "verify", "cancel")
FRESH = 2.0  # seconds for which a look at the environment holds; pages ask every second


class Maintenance:
    """The environment's state and the action in progress; thread-safe."""

    def __init__(self, environment: Environment, screen: Stages = silent):
        """screen: where else the progress is shown."""
        self.environment, self.screen = environment, screen
        self.building: dict[str, Any] | None = None  # {"action", "stage", "fraction", "cancels", "note"}
        self._cancelled = threading.Event()
        self.problem: Problem | None = None  # what the last action came to
        self.verified: float | None = None  # when it was last seen to work
        self._lock = threading.Lock()
        self._seen: tuple[float, Status] | None = None

    def status(self) -> dict[str, Any]:
        with self._lock:
            status, building = self._look().as_dict(), self.building
            if building is None and status["state"] != "ready" and self.is_building():
                stage = Message("environment.another_program")
                building = {"action": "repair", **beside("stage", stage), "fraction": None, "cancels": False}
            problem = self.problem and self.problem.as_dict()
            return {**status, "building": building, "problem": problem, "verified": self.verified}

    def _look(self) -> Status:
        """The environment's status, cached for FRESH seconds. The lock must be held."""
        if not self._seen or time.monotonic() - self._seen[0] > FRESH:
            self._seen = time.monotonic(), self.environment.status()
        return self._seen[1]

    def is_ready(self) -> bool:
        return self.environment.status().state == "ready"

    def check_ready(self) -> None:
        """Raise a Refusal (503) unless the trainer is ready to run."""
        with self._lock:
            status = self._look()
        if status.state == "ready":
            return
        if self.is_building():
            raise Refusal(503, "environment.in_the_making", "environment")
        raise Refusal(503, "environment.not_ready", "environment", reason=status.reason)

    def is_building(self) -> bool:
        """Whether it is being built, here or by another process such as `install.py`."""
        return self.building is not None or files.is_locked(self.environment.folder / "build.lock")

    def begin(self, action: str) -> None:
        """Start an action in a thread. Raises a Refusal (409) while another one is running."""
        if action not in ACTIONS:
            raise UserError("web.no_choice", "action", value=shown(action), choices=list(ACTIONS))
        if action == "cancel":
            self.cancel()
            return
        if action == "repair" and running_inside(self.environment.tree):
            raise Refusal(409, "environment.server_inside", "action")
        with self._lock:
            if self.building:
                raise Refusal(409, "environment.busy")
            self._cancelled.clear()
            stage = beside("stage", Message("environment.starting"))
            self.building = {"action": action, **stage, "fraction": None, "cancels": action == "repair"}
        threading.Thread(target=self._work, args=(action,), name=f"dreambooth_ext {action}", daemon=True).start()

    def cancel(self) -> None:
        """End a set-up of our own within a second or two. Raises a Refusal (409) where there is none."""
        with self._lock:
            if not self.building or not self.building["cancels"]:
                raise Refusal(409, "environment.nothing_to_cancel", "action")
            self._cancelled.set()
            self.building |= {**beside("stage", Message("environment.cancelling")), "cancels": False}

    def _work(self, action: str) -> None:
        problem = None
        try:
            if action == "verify":
                self.environment.verify()
            else:
                self._repair()
        except UserError as error:
            problem = error.problem
        except Exception as error:  # whatever it is, the thread's end must be shown, and the next try be possible
            problem = failure_of(error, self.environment.log)
        with self._lock:
            self.building, self.problem, self._seen = None, problem, None
            self.verified = self.verified if problem else time.time()

    def _repair(self) -> None:
        """Build or update an environment that is not ready; rebuild one that seems ready from nothing."""
        if self.is_ready():
            self.environment.repair(self._progress)
        else:
            self.environment.build(self._progress)

    def _progress(self, fraction: float | None, stage: str) -> None:
        """Called at least once a second while a program works; what it raises ends that program."""
        if self._cancelled.is_set():
            raise Cancelled
        self.screen(fraction, stage)
        with self._lock:
            if self.building and self.building["cancels"]:
                # without a share it is a note (which torch and why, say), shown until there is another
                new = beside("note", stage) if fraction is None else {**beside("stage", stage), "fraction": fraction}
                self.building = {**self.building, **new}
