"""Trains one run with several processes of this machine: `python -m dreambooth_ext.engine.launching.launcher RUN`.

Reports as one: its exit status is the first process's, and when one fails, all end within seconds and the run says
which and why. torch's launcher does not suffice: its workers outlive it when it is killed, it waits 30 seconds for
those that hang, and the reason that the run records is that of whoever lost the connection first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from ...core.errors import Problem
from ...core.runs.events import ENDED
from ...core.runs.run_folder import Run
from ...core.system.terminal import open_missing_streams, say
from .member import FINE, Member

FAILED = 3
POLL = 0.05  # seconds between looks at the processes
SETTLE = 1.0  # seconds after the first sign of a failure in which its cause shows
RESCUE = 6.0  # seconds for the first process to notice a failure and to begin to save what there is
LEAVING = 5.0  # seconds for the others to end after the first


class Launch:
    """The processes of one run from their start to their end. The first one reports for all."""

    def __init__(self, run: Run, members: list[Member], count: int):
        self.run, self.members, self.count = run, members, count
        self.first, self.others = members[0], members[1:]
        self._stop = threading.Event()

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Stop after the step. Also a signal's handler."""
        self._stop.set()

    def follow(self) -> int:
        """Wait for the end of all. Returns the run's exit status, negative for a signal."""
        while self.first.code is None:
            if self._stop.is_set():
                self._stop.clear()
                with contextlib.suppress(OSError):  # the run was deleted: its worker notices that, too
                    self.run.command("stop")
            if any(member.has_failed for member in self.others):
                self._wait_for_cause()
                if self.first.code is None:
                    return self._fail()
            time.sleep(POLL)
        if self.first.failure is None and self.first.code not in FINE and self._cause():
            return self._fail()
        return self._ended()

    def _wait_for_cause(self) -> None:
        """A process that lost another one may notice it before that one's end shows here."""
        deadline = time.monotonic() + SETTLE
        while self.first.code is None and not self._cause() and time.monotonic() < deadline:
            time.sleep(POLL)

    def _cause(self) -> Member | None:
        causes = [member for member in self.others if member.has_failed and member.is_cause]
        return next((member for member in causes if member.has_crashed), causes[0] if causes else None)

    def _fail(self) -> int:
        """End all because of a process that failed, after the first has saved what there is."""
        culprit = self._cause() or next(member for member in self.others if member.has_failed)
        problem, code = culprit.problem(self.count), (culprit.failure or {}).get("code", FAILED)
        self.first.tell(failed=problem.as_dict(), code=code)
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
        for member in self.others if code in FINE else ():
            member.wait(LEAVING)
        return code


def record(run: Run, problem: Problem) -> None:
    """Record that a run failed whose first process could not do so itself."""
    say(problem)
    lock = run.take()
    if lock is None:
        return
    with lock:
        if run.state()["status"] in ENDED:
            return
        if step := max((int(path.name) for path in run.checkpoints.glob("[0-9]*") if path.name.isdigit()), default=0):
            about: dict[str, Any] = {"reason": problem.message, "remedy": problem.remedy, "run": run.id, "step": step}
            problem = Problem("training.failed_with_state", problem.field, **about)
        run.events.append("error", **problem.as_event(), why=str(problem))
        run.end("failed", problem=problem.as_dict(), problems=[problem.as_dict()])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train one run with several processes.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--total", type=int)
    parser.add_argument("--tied", action="store_true", help="stop when standard input closes")
    parser.add_argument("--led", action="store_true")
    arguments = parser.parse_args(argv)
    run, count = Run(arguments.run.resolve()), arguments.processes
    words = [str(run.path)]
    words += ["--total", str(arguments.total)] if arguments.total is not None else []
    words += ["--led"] if arguments.led else []
    address = "127.0.0.1", free_port()
    members: list[Member] = []
    try:
        for number in range(count):
            members.append(Member(words, number, number, count, count, address))
        launch = Launch(run, members, count)
        for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), launch.stop)
        if arguments.tied:
            threading.Thread(target=stop_with_input, args=(launch,), name="parent", daemon=True).start()
        return launch.follow()
    finally:
        for member in members:
            member.kill()
        for member in members:
            member.wait(LEAVING)


def stop_with_input(launch: Launch) -> None:
    """Stop when whoever started this program has ended, for whatever reason."""
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    launch.stop()


def end_as(code: int) -> None:
    """End with this exit status; a negative one is a signal, which whoever started this program explains."""
    if code < 0:
        with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    open_missing_streams()
    end_as(main())
