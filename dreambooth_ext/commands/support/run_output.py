"""Runs training from the terminal: starts the worker, shows its events, publishes its models, passes Ctrl-C on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable
from shlex import quote
from subprocess import list2cmdline
from typing import Any

from ...core.errors import Problem
from ...core.runs import conclusion, training_states
from ...core.runs.event_text import step_figures, told
from ...core.runs.events import EventReader
from ...core.runs.job_options import JobOptions
from ...core.runs.launch_place import LaunchPlace
from ...core.runs.run_folder import Run, deleted
from ...core.system import environment_users
from ...core.system.terminal import Progress, say
from ...host.environment.environment import Environment
from ...host.jobs import exit_reasons, worker_process
from . import delivery
from .exit_status import BAD_INPUT, DONE, FAILED, STOPPED

ENDED_WITH = {"done": DONE, "stopped": STOPPED}


def onward(run: Run) -> str:
    """How to go on with a run, to be copied into this terminal."""
    path = os.path.abspath(run.path)
    return f"Go on with: python -m dreambooth_ext resume {list2cmdline([path]) if os.name == 'nt' else quote(path)}"


class Follower:
    """Follows a run that this terminal has claimed. `wanted`: its publishing options, or None; `given`: whole links for
    the worker."""

    def __init__(
        self,
        run: Run,
        environment: Environment,
        wanted: JobOptions | None,
        given: Iterable[str] = (),
        processes: int | None = None,
        place: LaunchPlace | None = None,
        distribution: str | None = None,
    ):
        self.run, self.environment, self.wanted, self.given = run, environment, wanted, given
        self.processes = processes  # that train it together; None: as many as its settings say
        self.place = place  # of this machine among several
        self.distribution = distribution  # instead of the run's setting
        self.progress: Progress | None = None
        self.publish_error: Problem | None = None
        self.models: list[str] = []
        self.refused = False  # whether the worker has said what is wrong
        self._began: dict[str, float] = {}  # when each kind of work did, by time.monotonic
        self.step: int | None = None  # the last that this worker told
        self.killed = False  # by a second Ctrl-C
        self._log_from = 0  # where in log.txt this worker's part begins, in bytes

    def train(self, total: int | None = None) -> int:
        """Start the worker and follow it to its end. Returns the exit status."""
        with environment_users.joined(
            self.run.id, self.environment.folder
        ):  # until the worker, which takes seconds, does so
            return self._train(total)

    def _train(self, total: int | None) -> int:
        events = EventReader(self.run.path / "events.jsonl", from_end=total is not None or self.run.state()["step"] > 0)
        log = self.run.path / "log.txt"
        self._log_from = log.stat().st_size if log.exists() else 0
        process = worker_process.start(
            self.run,
            self.environment,
            total,
            tied=True,
            given=self.given,
            processes=self.processes,
            place=self.place,
            distribution=self.distribution,
        )
        for polite in (signal.SIGINT, signal.SIGTERM):  # a shell may have told us to ignore the first
            signal.signal(polite, signal.default_int_handler)
        interrupts = 0
        waiting: deque[dict[str, Any]] = deque()
        while True:
            try:
                for new in worker_process.follow(process, events):
                    waiting.extend(new)
                    while waiting:
                        self.show(waiting[0])
                        waiting.popleft()  # only now: an interrupt must not lose an event
                break
            except KeyboardInterrupt:
                interrupts += 1
                self._interrupt(process, interrupts)
        self._close()
        return self._ending(process.returncode)

    def _interrupt(self, process: subprocess.Popen, times: int) -> None:
        self._close()
        if times == 1 and not self.run.last_word():  # else it hangs after its last word
            self.run.command("stop")
            self._say(f"{self._stopping()} Press Ctrl-C again to end at once, without saving.")
        else:
            self.killed = True
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a third is not to come before it is gone
            worker_process.kill(process)
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _stopping(self) -> str:
        if self.step is not None:
            return "stopping after this step; the training state is saved."
        step = training_states.newest_step(self.run)
        return f"stopping as soon as possible; nothing has been trained {f'since step {step}' if step else 'yet'}."

    def _ending(self, code: int) -> int:
        """Publish what is left, print how the run ended, and record that it is done."""
        if not self.run.exists():
            self._say(f"error: {deleted(self.run)}")
            return FAILED
        word = self.run.last_word()
        if word in ENDED_WITH and not self.refused:  # a refused resume leaves an earlier end
            code = ENDED_WITH[word]  # whatever the process came to after that
        elif self.killed and not self.refused:
            conclusion.end_killed(self.run)
        self._publish()
        delivery.conclude(self.run, self.wanted)
        state = self.run.state()
        if self.killed and code not in (DONE, STOPPED) and state["status"] != "failed":
            self._say(self._ended_at_once(state["step"]))
            return STOPPED
        if code == DONE and self.publish_error:
            self._say(f"error: {self.publish_error}")
            return FAILED
        if code == DONE:
            say(*self.models, stream=sys.stdout)
        elif code == STOPPED:
            self._say(f"stopped at step {state['step']}. {onward(self.run)}")
        elif not self.refused:  # killed, it crashed below Python, or died before its first word
            began = state.get("heartbeat") is not None
            told = f"error: {exit_reasons.explain(self.run, code, self._log_from, began)}"
            say(*told.split("\n"))  # the end of its log is in it
            return FAILED
        elif code != BAD_INPUT and training_states.newest_step(self.run) is not None:
            self._say(onward(self.run))  # the tab's advice names the run only, wherever its folder is
        return code if code in (DONE, BAD_INPUT, STOPPED) else FAILED

    def _ended_at_once(self, step: int) -> str:
        saved = training_states.newest_step(self.run)
        kept = (
            f"nothing since step {saved} was saved."
            if saved is not None
            else "nothing was saved yet: resume starts from the beginning."
        )
        return f"ended without saving at step {max(step, self.step or 0)}; {kept} {onward(self.run)}"

    def _publish(self) -> None:
        published, problems = delivery.publish_due(self.run, self.wanted)
        for path in published:
            self._wrote(str(path))
        if problems:
            self.publish_error = problems[-1]

    def show(self, event: dict[str, Any]) -> None:
        handler = getattr(self, f"_on_{event['type']}", None)
        if handler:
            handler(event)
        elif event["type"] in ("sample", "checkpoint"):
            self._say(told(event))

    def _on_status(self, event: dict[str, Any]) -> None:
        if "stage" in event:
            minutes = event.get("minutes")  # that it waits at most
            more = f"for {minutes} minutes more at most" if minutes else ""
            self._advance(event["stage"], event["done"], event["of"], more, is_waiting=bool(minutes))
        elif event["status"] == "preparing" and "plan" in event:
            self._say(told(event))

    def _on_step(self, event: dict[str, Any]) -> None:
        self.step = event["step"]
        self._advance("training", event["step"], event["total"], step_figures(event))

    def _on_validation(self, event: dict[str, Any]) -> None:
        self._say(f"validation loss at step {event['step']}: {event['loss']:.5f}")

    def _on_artifact(self, event: dict[str, Any]) -> None:
        wanted = delivery.here(self.wanted)
        if wanted is None:
            self._wrote(event["path"])
        elif wanted.wants(event):
            self._close()
            self._publish()
        else:
            self._say(f"wrote {event['path']}")

    def _wrote(self, path: str) -> None:
        self._say(f"wrote {path}")
        self.models.append(path)

    def _on_warning(self, event: dict[str, Any]) -> None:
        if "artifact" not in event:  # else it is our own
            self._say(told(event))

    def _on_error(self, event: dict[str, Any]) -> None:
        self.refused = True
        self._say(told(event))

    def _on_uploaded(self, event: dict[str, Any]) -> None:
        self._say(f"uploaded to {event['address']}")

    def _advance(self, label: str, done: int, total: int, text: str = "", is_waiting: bool = False) -> None:
        """is_waiting: what was done says nothing of the time that is left."""
        if self.progress and self.progress.label != label:
            self._close()
        if not self.progress:
            since = self._began.setdefault(label, time.monotonic())  # a save or a preview came between
            self.progress = Progress(total, label, start=max(0, done - 1), since=since)
        if is_waiting:
            self.progress.start = done
        self.progress.update(done, text)

    def _close(self) -> None:
        if self.progress:
            self.progress.close()
            self.progress = None

    def _say(self, text: str) -> None:
        """Print a line of its own, above the progress bar."""
        if self.progress:
            self.progress.close()
        say(text)
