"""`env`: show, create, check and repair the trainer's environment."""

from __future__ import annotations

import argparse
import json
import sys

from ..core.system.terminal import StageLine, say
from ..core.verbs.path_option import path
from ..host.environment.environment import Environment, Status
from ..host.environment.torch_build import AUTOMATIC, BUILDS

HELP = "show, make, check and repair the trainer's environment"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wheels", type=path, metavar="DIR", help="install from this folder of wheels, without a network"
    )
    parser.add_argument(
        "--host-python", type=path, metavar="PATH", help="use the torch of this Python, such as a WebUI's"
    )
    parser.add_argument(
        "--torch",
        choices=(AUTOMATIC, *BUILDS),
        help="install this build of torch, also where the WebUI has one: for CUDA 13.0 or 12.6, ROCm, Apple's GPU or"
        " the CPU; auto (the default) takes what fits the machine",
    )
    parser.add_argument("--repair", action="store_true", help="make the environment again from scratch")
    parser.add_argument("--verify", action="store_true", help="import every package and compare its version")
    parser.add_argument(
        "--status",
        action="store_true",
        help="only show the state; exit status 1 unless it is ready",
    )
    parser.add_argument("--json", action="store_true", help="print the state as JSON, for programs")


def run(args: argparse.Namespace) -> int:
    """The exit status is 0 if the environment is ready. Raises UserError("environment")."""
    environment = Environment()
    with StageLine() as progress:
        if args.repair:
            environment.build(progress, args.wheels, args.host_python, renew=True, torch=args.torch)
        elif (args.host_python or is_other_torch(environment, args.torch)) and not args.status:
            environment.build(progress, args.wheels, args.host_python, torch=args.torch)
        elif not args.status:
            environment.ensure(args.wheels, progress=progress)
        if args.verify:
            progress(None, "checking that everything works")
            environment.verify()
    status = environment.status()
    if args.json:
        print(json.dumps(status.as_dict(), ensure_ascii=True, indent=2))
    else:
        say(*describe(status), stream=sys.stdout)
    return 0 if status.state == "ready" else 1


def is_other_torch(environment: Environment, asked: str | None) -> bool:
    """Whether a build of torch is asked for that was not asked for last, or that the environment was not made with."""
    if asked is None:
        return False
    return asked != environment.asked_torch() or not environment.has_torch(asked, environment.record())


def describe(status: Status) -> list[str]:
    kinds = {
        "full": "complete, with its own torch",
        "overlay": "on top of the torch of another Python",
        "target": "a folder of packages on top of the torch of another Python",
    }
    lines = [f"The trainer's environment is {status.state}. {status.reason}".rstrip(), f"folder   {status.folder}"]
    if status.kind:
        lines += [
            f"kind     {kinds[status.kind]}",
            f"python   {status.python_version}  {status.python}",
            f"torch    {status.torch}  {status.device}",
            *([f"         {status.torch_reason}"] if status.torch_reason else []),
            f"packages {len(status.packages)}",
        ]
        lines += [f"without {name}: {reason}" for name, reason in status.optional.items()]
    return lines
