"""A run on the terminal: its worker started, its events shown, its models published, Ctrl-C passed on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import users
from ..errors import Problem, UserError
from ..host import publish, supervisor
from ..host.environment import Environment
from ..protocol import EventReader
from ..runs import Run
from ..telling import step_figures, told
from ..terminal import Progress, say
from . import DONE, FAILED, STOPPED


class Follower:
    """`target`: the folder that models are published into, None for none; `given`: whole links for the worker."""

    def __init__(self, run: Run, environment: Environment, target: Path | None, given: Iterable[str] = ()):
        self.run, self.environment, self.target, self.given = run, environment, target, given
        self.progress: Progress | None = None
        self.publish_error: Problem | None = None
        self.models: list[str] = []

    def train(self, total: int | None = None) -> int:
        """Start the worker and stay with it to its end. Returns the exit status."""
        with users.joined(self.run.id, self.environment.folder):  # until the worker, which takes seconds, does so
            return self._train(total)

    def _train(self, total: int | None) -> int:
        events = EventReader(self.run.path / "events.jsonl", from_end=total is not None or self.run.state()["step"] > 0)
        process = supervisor.start(self.run, self.environment, total, tied=True, given=self.given)
        for polite in (signal.SIGINT, signal.SIGTERM):  # a shell may have told us to ignore the first
            signal.signal(polite, signal.default_int_handler)
        interrupts, waiting = 0, deque()
        while True:
            try:
                for new in supervisor.follow(process, events):
                    waiting.extend(new)
                    while waiting:
                        self.show(waiting[0])
                        waiting.popleft()  # only now: an interrupt must not lose an event, a model to publish say
                break
            except KeyboardInterrupt:
                interrupts += 1
                self._interrupt(process, interrupts)
        self._close()
        return self._ending(process.returncode)

    def _interrupt(self, process: subprocess.Popen, times: int) -> None:
        self._close()
        if times == 1:
            self.run.command("stop")
            self._say("stopping after this step; the state is saved. Ctrl-C again ends at once.")
        else:
            supervisor.kill(process)

    def _ending(self, code: int) -> int:
        state = self.run.state()
        if code == DONE and self.publish_error:
            self._say(f"error: {self.publish_error}")
            return FAILED
        if code == DONE:
            say(*self.models, stream=sys.stdout)
        elif code == STOPPED:
            self._say(f"stopped at step {state['step']}. Go on with: python -m dreambooth_ext resume {self.run.path}")
        elif code not in (1, FAILED):  # killed, or it crashed below Python; everything else was told as an event
            told = f"error: {Problem(**state['problem'])}" if state.get("problem") else "error: the worker died."
            say(*told.split("\n"))  # the end of its log is in it
            return FAILED
        return code

    def show(self, event: dict[str, Any]) -> None:
        handler = getattr(self, f"_on_{event['type']}", None)
        if handler:
            handler(event)
        elif event["type"] in ("sample", "checkpoint", "warning", "error"):
            self._say(told(event))

    def _on_status(self, event: dict[str, Any]) -> None:
        if "stage" in event:
            self._advance(event["stage"], event["done"], event["of"])
        elif event["status"] == "preparing" and "plan" in event:
            self._say(told(event))

    def _on_step(self, event: dict[str, Any]) -> None:
        self._advance("training", event["step"], event["total"], step_figures(event))

    def _on_validation(self, event: dict[str, Any]) -> None:
        self._say(f"validation loss at step {event['step']}: {event['loss']:.5f}")

    def _on_artifact(self, event: dict[str, Any]) -> None:
        path = Path(event["path"])
        if self.target:
            try:
                path = publish.publish(path, self.target, run=self.run.id, name=self.run.config.name)
            except UserError as error:
                self._not_published(error.problem)
                return
            except OSError as error:  # a full disk, or the old model is open (Windows): training goes on
                remedy = f"The model is safe in {path.parent}; copy it from there."
                self._not_published(Problem("output_dir", f"it could not be published ({error}).", remedy))
                return
            self.run.events.append("published", name=event["name"], step=event["step"], path=str(path))
        self._say(f"wrote {path}")
        self.models.append(str(path))

    def _on_uploaded(self, event: dict[str, Any]) -> None:
        self._say(f"uploaded to {event['address']}")

    def _not_published(self, problem: Problem) -> None:
        self.publish_error = problem
        self._say(f"warning: {problem}")

    def _advance(self, label: str, done: int, total: int, text: str = "") -> None:
        if self.progress and self.progress.label != label:
            self._close()
        if not self.progress:
            self.progress = Progress(total, label, start=max(0, done - 1))
        self.progress.update(done, text)

    def _close(self) -> None:
        if self.progress:
            self.progress.close()
            self.progress = None

    def _say(self, text: str) -> None:
        """A line of its own, above the progress bar's."""
        if self.progress:
            self.progress.close()
        say(text)
