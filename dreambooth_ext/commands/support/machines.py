"""Options for training one run with several machines, and the command of all machines but the first."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
from collections.abc import Callable

from ...core.config.run_config import SETTINGS
from ...core.errors import UserError
from ...core.runs import launch_place
from ...core.runs.launch_place import LaunchPlace
from ...core.system.terminal import say
from ...host.environment.environment import Environment
from ...host.jobs import worker_process
from .exit_status import BAD_INPUT, DONE, FAILED, STOPPED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("Several machines")
    group.add_argument("--machines", type=int, metavar="N", help="how many machines train the run together, each with "
                       "this command")  # fmt: skip
    group.add_argument("--machine-rank", type=int, metavar="N", help="which of them this is: 0 for the first, which "
                       "writes and reports")  # fmt: skip
    group.add_argument("--main-address", metavar="HOST:PORT", help="where they meet: an address of the first machine "
                       "and a free port")  # fmt: skip


def chosen(arguments: argparse.Namespace) -> LaunchPlace | None:
    """The place of this command among several; None for one by itself. Raises UserError."""
    return launch_place.chosen(arguments.machines, arguments.machine_rank, arguments.main_address)


def say_others(arguments: argparse.Namespace, place: LaunchPlace | None) -> None:
    """Say on the first machine how the others are started; another program's launcher starts them by itself."""
    if place and arguments.machines:
        ranks = "1" if place.machines == 2 else f"1 to {place.machines - 1}"
        say(f"start the same command on the other machines, with --machines {place.machines} --machine-rank {ranks} "
            f"--main-address {place.address}")  # fmt: skip


def check_processes(count: int | None) -> None:
    """Raise UserError for a number of processes that the setting does not allow either."""
    low, high = SETTINGS["processes"].limits
    if count is not None and not low <= count <= high:
        raise UserError("settings.out_of_range", "processes", value=count, low=low, high=high)


def help_out(start: Callable[[Environment], subprocess.Popen]) -> int:
    """Train a run of the first machine with it; returns the exit status. start: starts this machine's launcher."""
    environment = Environment()
    environment.ensure()
    process = start(environment)
    for polite in (signal.SIGINT, signal.SIGTERM):
        signal.signal(polite, signal.default_int_handler)
    hangup = getattr(signal, "SIGHUP", None)  # the terminal was closed; Windows lacks it
    if hangup and signal.getsignal(hangup) is signal.SIG_DFL:  # nohup has it ignored
        signal.signal(hangup, signal.default_int_handler)
    interrupts = 0
    while True:
        try:
            code = process.wait()
            break
        except KeyboardInterrupt:
            interrupts += 1
            interrupt(process, interrupts)
    return code if code in (DONE, BAD_INPUT, STOPPED) else FAILED


def interrupt(process: subprocess.Popen, times: int) -> None:
    if times == 1:
        worker_process.stop_helper(process)
        with contextlib.suppress(OSError):  # the terminal was closed
            say("stopping. Press Ctrl-C again to end this machine's part at once.")
    else:
        worker_process.kill(process)
