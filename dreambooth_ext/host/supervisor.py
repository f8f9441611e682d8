"""Workers from the outside: start one, follow what it says, end it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from ..protocol import EventReader, take_commands
from ..runs import Run
from .environment import Environment

POLL = 0.2  # seconds between looks at a run's events


def start(run: Run, environment: Environment, total: int | None = None, tied: bool = False) -> subprocess.Popen:
    """Start the run's worker in the trainer's environment. What it prints goes to the run's log.txt.

    It has a process group of its own: Ctrl-C in a terminal reaches us, and we ask the worker to stop in its own time.
    On Windows it has a hidden console, too: closing a console's window ends all that share it, at once and unsaved.
    `tied`: it saves and stops when this process ends, even by a kill; else it lives on.
    """
    arguments = ["-m", "dreambooth_ext.engine.worker", str(run.path)]
    if total is not None:
        arguments += ["--total", str(total)]
    if tied:
        arguments.append("--tied")
    take_commands(run.commands)  # what was meant for an earlier worker; from here on, they are for this one
    if os.name == "nt":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    else:
        apart = {"start_new_session": True}
    with (run.path / "log.txt").open("ab") as log:
        return subprocess.Popen(
            environment.command(arguments),
            env=environment.variables({"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}),
            stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            **apart,
        )


def follow(process: subprocess.Popen, events: EventReader) -> Iterator[list[dict[str, Any]]]:
    """The events as they come, until the worker has ended."""
    while True:
        ended = process.poll() is not None
        yield events.new()
        if ended:
            return
        time.sleep(POLL)


def kill(process: subprocess.Popen) -> None:
    """End a worker that does not listen, at once."""
    if os.name == "nt":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
