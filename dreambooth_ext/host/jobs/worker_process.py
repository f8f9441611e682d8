"""Controls workers from the host's side: start one, follow its events, kill it."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...core.config import devices, links
from ...core.errors import UserError
from ...core.runs.events import EventReader, take_commands
from ...core.runs.launch_place import LaunchPlace
from ...core.runs.run_folder import Run
from ...core.system.message_lines import line
from ..environment.environment import Environment
from .queue import read_state

LAUNCHER = "dreambooth_ext.engine.launching.launcher"
POLL = 0.2  # seconds between looks at a run's events
PATIENCE = 5.0  # seconds for a killed process to be gone


def start(
    run: Run,
    environment: Environment,
    total: int | None = None,
    tied: bool = False,
    led: bool = False,
    given: Iterable[str] = (),
    processes: int | None = None,
    place: LaunchPlace | None = None,
    distribution: str | None = None,
) -> subprocess.Popen:
    """Start the run's worker in the trainer's environment, or the launcher of several. Its output goes to the run's
    log.txt.

    It has a process group of its own: Ctrl-C in a terminal reaches only us, and we ask the worker to stop. On Windows
    it also has a hidden console: closing a console window kills every process that shares it, without saving. `tied`:
    it saves and stops when this process ends, even by a kill. `led`: it does so when no host leads its folder of runs
    any more, if the last leader chose that (see LeaderLock). Otherwise it keeps running. `given`: the whole links that
    it may need. `processes`: how many train it; None for as many as its settings say. `place`: among several
    machines. `distribution`: instead of its setting.
    """
    arguments = [*program(run, processes, place), str(run.path)]
    if total is not None:
        arguments += ["--total", str(total)]
    if distribution:
        arguments += ["--distribution", distribution]
    if tied:
        arguments.append("--tied")
    if led:
        arguments.append("--led")
    take_commands(run.commands)  # what was meant for an earlier worker; from here on, they are for this one
    with (run.path / "log.txt").open("ab") as log:
        return subprocess.Popen(
            environment.command(arguments),
            env=environment.variables({"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **links.variables(given)}),
            stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            **apart(),
        )


def start_helper(
    environment: Environment,
    place: LaunchPlace,
    processes: int,
    where: Path,
    is_run: bool,
    config: dict[str, Any] | None = None,
    distribution: str | None = None,
    filled: Iterable[str] = (),
) -> subprocess.Popen:
    """Start the launcher of another machine than the first, with this terminal's output. When the process's standard
    input closes without `stop_helper`, it takes this program for killed, and the run fails.

    where: the run, or the folder in which it is looked for. config: the settings that this machine was given; filled:
    which of them the guide has filled in. distribution: instead of the run's setting.
    """
    arguments = ["-m", LAUNCHER, f"--processes={processes}", "--tied", *place.words]
    arguments += ["--distribution", distribution] if distribution else []
    process = subprocess.Popen(
        environment.command([*arguments, *([str(where)] if is_run else ["--runs-dir", str(where)])]),
        env=environment.variables({"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}),
        stdin=subprocess.PIPE,
        bufsize=0,
        **apart(),
    )
    assert process.stdin
    with contextlib.suppress(OSError):  # it ended at once, and its exit status says so
        process.stdin.write(line({"config": config, "filled": list(filled)}))
    return process


def stop_helper(process: subprocess.Popen) -> None:
    """Have that launcher stop the run, on all machines."""
    assert process.stdin
    with contextlib.suppress(OSError):  # it has ended
        process.stdin.write(line({"stop": True}))
    with contextlib.suppress(OSError):
        process.stdin.close()


def apart() -> dict[str, Any]:
    """What gives a program a process group of its own."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def program(run: Run, processes: int | None, place: LaunchPlace | None = None) -> list[str]:
    """The module that trains a run, and how many processes it is to start, of several machines this one's."""
    if processes is None:
        try:
            processes = devices.processes(run.config.device, run.config.processes)
        except UserError:  # the worker says what is wrong with it
            processes = 1
    if processes == 1 and place is None:
        return ["-m", "dreambooth_ext.engine.worker"]
    return ["-m", LAUNCHER, f"--processes={processes}", *(place.words if place else ())]


def follow(process: subprocess.Popen, events: EventReader) -> Iterator[list[dict[str, Any]]]:
    """Yield new events as they come, until the worker has ended."""
    while True:
        ended = process.poll() is not None
        yield events.new()
        if ended:
            return
        time.sleep(POLL)


def kill(process: subprocess.Popen) -> None:
    """Kill a worker that does not respond."""
    with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # one that is stuck in a driver dies when that lets it go
        process.wait(PATIENCE)


def kill_alive(run: Run) -> bool:
    """Kill the worker that holds a run's lock, whatever the run's status: it may hang after its last event.

    False if none was found on this machine. The process id in state.json may by now belong to another program, so the
    lock must be held, and if the system shows what a process runs, it must be a worker of this run.
    """
    state = read_state(run)
    pid = state.get("pid")
    if state.get("host") != platform.node() or not isinstance(pid, int):
        return False
    if not run.is_held() or not runs_worker(pid, run):
        return False
    with contextlib.suppress(ProcessLookupError):
        if os.name == "nt":
            os.kill(pid, signal.SIGTERM)  # ends it at once: there are no signals there
        elif os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
    return True


def runs_worker(pid: int, run: Run) -> bool:
    """Whether that process is a worker of this run, if the system shows that (Linux does)."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return not Path("/proc/self/cmdline").exists()
    return any(os.fsencode(run.id) in argument for argument in arguments)
