"""`train`: one run, from pictures to a published model."""

from __future__ import annotations

import argparse
from functools import partial

from ..core.checks import config_checks, config_warnings
from ..core.config import devices, links, paths
from ..core.data import picture_entries
from ..core.runs import run_folder
from ..core.system.terminal import say
from ..core.verbs.path_option import path
from ..host.environment.environment import Environment
from ..host.jobs import worker_process
from .support import config_options, delivery, machines
from .support.exit_status import BAD_INPUT
from .support.run_output import Follower

HELP = "train a model on your pictures"
USAGE = (
    "python -m dreambooth_ext train [--config FILE] [--<setting> VALUE ...] "
    "[--webui|--comfyui|--sdnext|--output-dir DIR]"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_places(parser)
    machines.add_arguments(parser)
    config_options.add_arguments(parser)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the options for where runs are kept and where finished models go."""
    parser.add_argument("--runs-dir", type=path, metavar="DIR", default=run_folder.DEFAULT_RUNS_DIR,
                        help="folder of the runs (default: runs, beside the program)")  # fmt: skip
    delivery.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    place = machines.chosen(arguments)
    config, choices, entries, problems, subjects = config_options.complete_arguments(arguments)
    problems += config_checks.folder_problems("runs_dir", arguments.runs_dir)
    folders = delivery.checked_folders(arguments, config, problems)
    if problems:
        config_options.print_problems(problems)
        return BAD_INPUT
    if place and place.rank:
        wished = paths.absolute(config)
        processes = devices.processes(config.device, config.processes)
        start = partial(worker_process.start_helper, place=place, processes=processes, where=arguments.runs_dir)
        return machines.help_out(partial(start, is_run=False, config=wished.as_dict(), filled=choices))
    config_options.print_choices(choices)
    count = picture_entries.trained(entries)
    clashes = delivery.clashes(arguments, config, entries, subjects, folders)
    config_options.print_warnings(
        [*config_warnings.warnings(config, count), *picture_entries.warnings(config, entries, subjects), *clashes]
    )
    environment = Environment()
    environment.ensure()
    wanted = delivery.wished(folders, delivery.publishes_intermediate(arguments))
    run = run_folder.create(arguments.runs_dir, paths.absolute(config), wanted.as_dict() if wanted else None)
    say(f"run {run.id} in {run.path}")
    machines.say_others(arguments, place)
    with delivery.claimed(run):
        follower = Follower(run, environment, wanted, links.of(config), place=place)
        code = follower.train()
    if code == BAD_INPUT and follower.refused and run.state()["step"] == 0:
        run.delete()  # refused before it trained: there is nothing in it to go on with
    return code
