"""Builds, repairs and verifies the trainer's environment in the background, one action at a time."""

from __future__ import annotations

import threading
import time
from typing import Any

from ...core.config.parsing import shown
from ...core.errors import Problem, UserError
from ...core.messages.message import Message, beside
from ...core.system import files
from ..errors import Refusal
from .environment import Environment, Status, failure_of
from .pip_runner import running_inside

ACTIONS = ("repair", "verify")
FRESH = 2.0  # seconds for which a look at the environment holds; pages ask every second


class Maintenance:
    """The environment's state and the action in progress; thread-safe."""

    def __init__(self, environment: Environment):
        self.environment = environment
        self.building: dict[str, Any] | None = None  # {"action", "stage", "fraction", "note"}
        self.problem: Problem | None = None  # what the last action came to
        self.verified: float | None = None  # when it was last seen to work
        self._lock = threading.Lock()
        self._seen: tuple[float, Status] | None = None

    def status(self) -> dict[str, Any]:
        with self._lock:
            status, building = self._look().as_dict(), self.building
            if building is None and status["state"] != "ready" and self.is_building():
                stage = Message("environment.another_program")
                building = {"action": "repair", **beside("stage", stage), "fraction": None}
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
        if action == "repair" and running_inside(self.environment.tree):
            raise Refusal(409, "environment.server_inside", "action")
        with self._lock:
            if self.building:
                raise Refusal(409, "environment.busy")
            self.building = {"action": action, **beside("stage", Message("environment.starting")), "fraction": None}
        threading.Thread(target=self._work, args=(action,), name=f"dreambooth_ext {action}", daemon=True).start()

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
        with self._lock:
            if self.building and fraction is None:  # which torch and why, say: shown until there is another
                self.building = {**self.building, **beside("note", stage)}
            elif self.building:
                self.building = {**self.building, **beside("stage", stage), "fraction": fraction}
