"""Trains one run with several processes: `python -m dreambooth_ext.engine.launching.launcher RUN --processes N`.

Reports as one: its exit status is the first process's, and when one fails, all end within seconds and the run says
which and why. torch's launcher does not suffice: its workers outlive it when it is killed, it waits 30 seconds for
those that hang, and the reason that the run records is that of whoever lost the connection first.

Of several machines, each has a launcher (`machines`); all but the first look for the run in `--runs-dir`.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ...core.errors import Problem, UserError
from ...core.messages.message import Message, beside
from ...core.runs.events import take_commands
from ...core.runs.run_folder import Run
from ...core.system.message_lines import messages
from ...core.system.terminal import open_missing_streams, say
from . import machines
from .differences import first_difference, two_values
from .launch import LEAVING, Help, Launch, Stop, record
from .machines import Connection, Meeting, Place
from .member import Member

REFUSED, STOPPED = 1, 130
TELLING = 10.0  # seconds between reports of what is waited for
LOOKING = 60.0  # seconds in which a network folder shows a new run
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


class Input:
    """What whoever started this program says on standard input: the settings that this machine was given, which of them
    the guide has filled in, and that it is to stop."""

    def __init__(self) -> None:
        self.config: dict[str, Any] | None = None
        self.filled: list[str] = []

    def follow(self, stop: Stop) -> None:
        """Stop when that program wants it, or has ended, for whatever reason."""
        is_wish = False
        for message in messages(sys.stdin.buffer):
            if "config" in message:
                self.config, self.filled = message["config"], message.get("filled", [])
            is_wish = is_wish or bool(message.get("stop"))
        stop.is_abandoned = not is_wish
        stop.ask()


def main(argv: list[str] | None = None) -> int:
    arguments = make_parser().parse_args(argv)
    stop, given = Stop(), Input()
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop.ask)
    if arguments.tied:
        threading.Thread(target=given.follow, args=(stop,), name="parent", daemon=True).start()
    if arguments.machine_rank:
        return help_out(arguments, stop, given)
    return train(arguments, stop)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train one run with several processes.")
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--total", type=int)
    parser.add_argument("--distribution", help="instead of the run's setting")
    parser.add_argument("--tied", action="store_true", help="stop when standard input closes")
    parser.add_argument("--led", action="store_true")
    parser.add_argument("--runs-dir", type=Path, help="where another machine than the first looks for the run")
    parser.add_argument("--machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0)
    parser.add_argument("--main-address", default="127.0.0.1:0")
    parser.add_argument("--local", type=int, default=0, help="which of several launchers on one machine this is")
    parser.add_argument("--locals", type=int, default=1)
    return parser


def place_of(arguments: argparse.Namespace) -> Place:
    host, _, port = arguments.main_address.rpartition(":")
    is_one_machine = arguments.locals == arguments.machines > 1
    place = arguments.machines, arguments.machine_rank, host.strip("[]"), int(port), arguments.processes
    return Place(*place, is_one_machine)


# --- the first machine


def train(arguments: argparse.Namespace, stop: Stop) -> int:
    """Train the run, together with other machines if there are any. Returns the exit status."""
    run, place = Run(arguments.run.resolve()), place_of(arguments)
    if place.machines == 1:
        return launch(arguments, run, stop, 0, place.processes, ("127.0.0.1", free_port("127.0.0.1")), [])
    before = run.before()
    meeting = Meeting(place, {"run": run.id}, lambda: asked_to_stop(run, stop))
    try:
        try:
            waiting = Waiting(run, place)
            if not meeting.hold(waiting.tell, waiting.warn):
                return end_stopped(run)
            port = free_port("")
            problem = meeting.begin(port)
        except UserError as error:
            problem = error.problem
        lines = [line for _, line in sorted(meeting.lines.items())]
        if problem:
            for line in lines:
                line.tell(failed=problem.as_dict(), code=REFUSED)
            record(run, problem, before or {"status": "failed"})
            return REFUSED
        world = sum(meeting.processes.values())
        return launch(arguments, run, stop, 0, world, (place.host, port), lines)
    finally:
        for line in meeting.lines.values():
            line.kill()
            line.wait(LEAVING)


class Waiting:
    """Tells in the run's events how many machines are there, and how many minutes more the others have."""

    def __init__(self, run: Run, place: Place):
        self.run, self.place, self.told = run, place, (0, 0.0)

    def warn(self, problem: Problem) -> None:
        say(f"warning: {problem}")
        self.run.events.append("warning", **problem.as_event())

    def tell(self, there: int, seconds: float) -> None:
        count, when = self.told
        if there == count and time.monotonic() - when < TELLING:
            return
        self.told = there, time.monotonic()
        who = "stages.waiting_for_processes" if self.place.is_one_machine else "stages.waiting_for_machines"
        known = {**beside("stage", Message(who)), "done": there, "of": self.place.machines}
        self.run.events.append("status", status="queued", **known, minutes=max(1, math.ceil(seconds / 60)))


def asked_to_stop(run: Run, stop: Stop) -> bool:
    return stop.take() or any(command.startswith("stop") for command in take_commands(run.commands))


def end_stopped(run: Run) -> int:
    lock = run.take()
    if lock:
        with lock:
            run.end("stopped", problem=None, problems=[])
    return STOPPED


# --- the other machines


def help_out(arguments: argparse.Namespace, stop: Stop, given: Input) -> int:
    """Train a run of another machine with it. Returns the exit status."""
    place = place_of(arguments)
    name = arguments.run.name if arguments.run else None
    folder = (arguments.run.parent if arguments.run else arguments.runs_dir).resolve()
    me, address = place.name_of(place.rank), f"{place.host}:{place.port}"
    say(f"{me}: asking {address} for the run; it is looked for in {folder}")
    try:
        hello = {"processes": place.processes, "run": name}
        line = machines.go_to(place, hello, stop.is_asked, Reminder(place).tell)
    except UserError as error:
        say(f"error: {error}")
        return REFUSED
    if line is None:
        with contextlib.suppress(OSError):  # the terminal was closed
            say(f"stopped, before {address} had a run for this machine.")
        return STOPPED
    begin = line.said["begin"]
    run = Run(folder / Path(str(begin["run"])).name)
    if problem := objection(run, given, me):
        say(f"error: {problem}")
        line.tell(failed=problem.as_dict(), code=REFUSED)
        line.hear("failed", seconds=LEAVING)
        return REFUSED
    line.tell(ready=True)
    say(f"{me}: {run.id}, found in {folder}")
    return launch(arguments, run, stop, begin["first"], begin["world"], (place.host, begin["port"]), [line])


class Reminder:
    """Says every now and then that the first machine does not answer yet; at once if its name is not known."""

    def __init__(self, place: Place):
        self.place, self.told, self.is_unknown = place, time.monotonic(), False

    def tell(self, error: OSError) -> None:
        was_unknown, self.is_unknown = self.is_unknown, isinstance(error, socket.gaierror)
        if time.monotonic() - self.told < TELLING and was_unknown >= self.is_unknown:
            return
        self.told = time.monotonic()
        host, address = self.place.host, f"{self.place.host}:{self.place.port}"
        if self.is_unknown:
            say(f"main_address: the name {host} is not known here ({error.strerror}). It is tried again; if it is "
                "misspelt, stop, and give the first machine's name or IP address.")  # fmt: skip
        else:
            say(f"{address} does not answer yet. Is the first machine's command running?")


def objection(run: Run, given: Input, name: str) -> Problem | None:
    """Why the run here is not the one to train. given: the settings that this machine was given, none for a resumed
    run. name: this machine's."""
    deadline = time.monotonic() + (LOOKING if run.path.parent.is_dir() else 0)
    while not run.exists() and time.monotonic() < deadline:
        time.sleep(0.5)
        if not any(run.path.parent.glob("*/config.json")):
            break  # this folder has no runs at all
    about: dict[str, Any] = {"run": run.id, "folder": str(run.path.parent), "machine": name}
    if not run.exists():
        return Problem("machines.no_run", "runs_dir", **about)
    try:
        known = run.config.as_dict()
    except UserError as error:
        return error.problem
    if given.config is None or not (setting := first_difference(known, given.config, given.filled)):
        return None
    if values := two_values(setting, known, given.config):
        return Problem("machines.other_values", setting, setting=setting, **values, **about)
    return Problem("machines.other_settings", setting, setting=setting, **about)


# --- all


def launch(
    arguments: argparse.Namespace,
    run: Run,
    stop: Stop,
    first: int,
    world: int,
    address: tuple[str, int],
    lines: list[Connection],
) -> int:
    """Start this machine's processes and follow them to their end. first: the rank of the first of them among `world`;
    lines: to the other machines, or to the first one."""
    words = [str(run.path)]
    words += ["--total", str(arguments.total)] if arguments.total is not None else []
    words += ["--distribution", arguments.distribution] if arguments.distribution else []
    words += ["--led"] if arguments.led else []
    if lines and (name := machines.interface_to(*address)):
        for variable in INTERFACES:
            os.environ.setdefault(variable, name)
    here = arguments.processes
    members: list[Member] = []
    try:
        for number in range(here):
            local = arguments.local * here + number
            members.append(Member(words, first + number, local, arguments.locals * here, world, address))
        if first:
            place = place_of(arguments)
            return Help(members, world, stop, lines[0], place.name_of(place.rank)).follow()
        return Launch(run, members, world, stop, lines).follow()
    finally:
        for member in members:
            member.kill()
        for member in members:
            member.wait(LEAVING)


def free_port(host: str) -> int:
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


def end_as(code: int) -> None:
    """End with this exit status; a negative one is a signal, which whoever started this program explains."""
    if code < 0:
        with contextlib.suppress(OSError, ValueError, ImportError):  # SIGKILL has no handler
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the worker's own dump says more
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    open_missing_streams()
    end_as(main())
