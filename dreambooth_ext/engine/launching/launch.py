"""The processes of one run on one machine from their start to their end: watched, stopped and ended together."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from ...core.errors import Problem
from ...core.runs import exit_codes, training_states
from ...core.runs.events import ENDED
from ...core.runs.run_folder import Run
from ...core.system.terminal import say
from .machines import Connection
from .member import FINE, Member

FAILED = 3
POLL = 0.05  # seconds between looks at the processes
SETTLE = 1.0  # seconds after the first sign of a failure in which its cause shows
RESCUE = 5.0  # seconds for the first process to notice a failure and to begin to save what there is
LEAVING = 5.0  # seconds for the others to end after the first


class Stop:
    """Whether the run is to be stopped: by a signal, or by the end of whoever started this program."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.is_abandoned = False  # whoever started this program has ended without a word, as one that is killed does

    def ask(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Also a signal's handler."""
        self._event.set()

    def is_asked(self) -> bool:
        return self._event.is_set()

    def take(self) -> bool:
        """Whether it was asked since the last call."""
        asked = self._event.is_set()
        self._event.clear()
        return asked


def first_cause(members: Sequence[Member | Connection]) -> Member | Connection | None:
    """Which of these failed by itself, and did not only lose another one."""
    causes = [member for member in members if member.has_failed and member.is_cause]
    return next((member for member in causes if member.has_crashed), causes[0] if causes else None)


def wait_for_cause(members: Sequence[Member | Connection], is_over: Callable[[], bool]) -> None:
    """A process that lost another one may notice it before that one's end shows here."""
    deadline = time.monotonic() + SETTLE
    while not is_over() and not first_cause(members) and time.monotonic() < deadline:
        time.sleep(POLL)


def leave(members: Sequence[Member | Connection], code: int) -> None:
    """Let these end after the first process, which has ended with this exit status."""
    for member in members:
        member.tell(ended=code)
    for member in members:
        member.wait(LEAVING)


class Launch:
    """On the machine of the first process, which reports for all. lines: to the other machines."""

    def __init__(self, run: Run, members: list[Member], count: int, stop: Stop, lines: Sequence[Connection] = ()):
        self.run, self.first, self.count, self.stop, self.lines = run, members[0], count, stop, lines
        self.others: list[Member | Connection] = [*members[1:], *lines]

    def follow(self) -> int:
        """Wait for the end of all. Returns the run's exit status, negative for a signal."""
        while self.first.code is None:
            asking = [line for line in self.lines if line.said.pop("stop", False)]
            if self.stop.take() or asking:
                with contextlib.suppress(OSError):  # the run was deleted: its worker notices that, too
                    self.run.command("stop")
                    self._tell_who_stops(asking)
            if any(member.has_failed for member in self.others):
                wait_for_cause(self.others, lambda: self.first.code is not None)
                if self.first.code is None:
                    return self._fail()
            time.sleep(POLL)
        if self.first.failure is None and self.first.code not in FINE and first_cause(self.others):
            return self._fail()
        return self._ended()

    def _tell_who_stops(self, lines: Sequence[Connection]) -> None:
        """Record which machines have asked for the stop: whoever looks at the first one has not."""
        for line in lines:
            problem = Problem("machines.asked_to_stop", machine=line.name)
            say(problem)
            self.run.events.append("warning", **problem.as_event())

    def _fail(self) -> int:
        """End all because of a process that failed, after the first has saved what there is."""
        culprit = first_cause(self.others) or next(member for member in self.others if member.has_failed)
        problem, code = culprit.problem(self.count), (culprit.failure or {}).get("code", FAILED)
        self.first.tell(failed=problem.as_dict(), code=code)
        for line in self.lines:
            line.tell(failed=problem.as_dict(), code=code)
        for member in self.others:
            member.kill()
        self.first.wait(RESCUE)
        while self.first.rescues and self.first.code is None:
            time.sleep(POLL)
        self.first.kill()
        self.first.wait(LEAVING)
        if self.first.failure is None and self.first.code not in FINE:
            record(self.run, problem)
        return int(code)

    def _ended(self) -> int:
        code = self.first.code
        assert code is not None
        if code in FINE:
            leave(self.others, code)
            return code
        why = {"failed": self.first.failure["failed"], "code": code} if self.first.failure else {}
        for line in self.lines:
            line.tell(ended=code, **why)
        return code


class Help:
    """On another machine than the first process's. line: to that machine, which says how the run ends. name: this
    machine's."""

    def __init__(self, members: Sequence[Member], count: int, stop: Stop, line: Connection, name: str):
        self.members, self.count, self.stop, self.line, self.name = members, count, stop, line, name

    def follow(self) -> int:
        """Wait for the end of all. Returns the exit status."""
        while True:
            if self.line.closed.is_set() or {"failed", "ended"} & self.line.said.keys():
                return self._over()
            if self.stop.take() and not self.stop.is_abandoned:
                self.line.tell(stop=True)
                with contextlib.suppress(OSError):  # the terminal was closed
                    say("the first machine is asked to stop the run.")
            if self.stop.is_abandoned:
                gone = Problem("machines.gone", "processes", machine=self.name)
                self.line.tell(failed=gone.as_dict(), code=FAILED, is_exchange=False)
                self.line.hear("failed", "ended", seconds=SETTLE + RESCUE)
                return self._over()
            if any(member.has_failed for member in self.members):
                wait_for_cause(self.members, lambda: bool({"failed", "ended"} & self.line.said.keys()))
                self._tell_failure()
                self.line.hear("failed", "ended", seconds=SETTLE + RESCUE)
                return self._over()
            time.sleep(POLL)

    def _tell_failure(self) -> None:
        if cause := first_cause(self.members):
            problem, code = cause.problem(self.count), (cause.failure or {}).get("code", FAILED)
            self.line.tell(failed=problem.as_dict(), code=code, is_exchange=False)

    def _over(self) -> int:
        said = self.line.said
        if "failed" in said:
            say(f"error: {Problem.from_dict(said['failed'])}")
            return int(said.get("code", FAILED))
        if "ended" not in said:
            cause = first_cause(self.members)
            problem = cause.problem(self.count) if cause else self.line.problem(self.count)
            say(f"error: {problem}")
            return FAILED
        if said["ended"] in FINE:
            leave(self.members, said["ended"])
            say("the run is done." if said["ended"] == 0 else "the run is stopped.")
            return int(said["ended"])
        about: dict[str, Any] = {"number": 1, "count": self.count, "reason": exit_codes.in_words(said["ended"])}
        say(f"error: {Problem('processes.ended', 'processes', **about)}")
        return FAILED


def record(run: Run, problem: Problem, before: dict[str, Any] | None = None) -> None:
    """Record that a run failed whose first process could not do so itself. before: the status that it keeps if it was
    refused before it continued."""
    say(problem)
    lock = run.take()
    if lock is None:
        return
    with lock:
        if run.state()["status"] in ENDED:
            return
        step = training_states.newest_step(run)
        if step and before is None:
            about: dict[str, Any] = {"reason": problem.message, "remedy": problem.remedy, "run": run.id, "step": step}
            problem = Problem("training.failed_with_state", problem.field, **about)
        run.events.append("error", **problem.as_event(), why=str(problem))
        known = dict(before or {"status": "failed"})
        run.end(known.pop("status"), **known, problem=problem.as_dict(), problems=[problem.as_dict()])
