"""`train`: one run from pictures to a published model."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import advice, checks, links, pictures, runs
from ..errors import UserError
from ..host import publish
from ..host.environment import Environment
from ..settings.methods import KINDS
from ..terminal import say
from . import BAD_INPUT, settings
from .following import Follower

HELP = "train a model on your pictures"
USAGE = "python -m dreambooth_ext train [--config FILE] [--<setting> VALUE ...] [--webui DIR | --output-dir DIR]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_places(parser)
    settings.add_arguments(parser)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Where runs are kept, and where finished models go."""
    parser.add_argument("--runs-dir", type=settings.path, metavar="DIR", default=runs.DEFAULT_RUNS_DIR,
                        help="folder of the runs (default: runs, beside the program)")  # fmt: skip
    parser.add_argument("--webui", type=settings.path, metavar="DIR", help="publish into this WebUI's model folders")
    parser.add_argument("--output-dir", type=settings.path, metavar="DIR", help="publish into this folder")


def target_folder(arguments: argparse.Namespace, method: str) -> Path | None:
    """The folder that takes the models that a method makes, if one was named."""
    if arguments.webui and arguments.output_dir:
        raise UserError("output_dir", "--webui names a folder for the model already.", "Leave one of them out.")
    folder = arguments.output_dir
    if (arguments.webui or folder) and KINDS[method] not in publish.WEBUI_FOLDERS:
        field = "webui" if arguments.webui else "output_dir"
        message = "no WebUI loads an unconditional model, and it is a folder."
        raise UserError(field, message, "Leave it out: the model is in the run's artifacts. Draw with `generate`.")
    if arguments.webui:
        folder = publish.webui_folder(arguments.webui, KINDS[method])
    for problem in checks.folder_problems("webui" if arguments.webui else "output_dir", folder) if folder else []:
        raise UserError(problem.field, problem.message, problem.remedy)
    return folder


def run(arguments: argparse.Namespace) -> int:
    config, choices, entries, problems = settings.complete(arguments)
    problems += checks.folder_problems("runs_dir", arguments.runs_dir)
    target = None
    try:
        target = target_folder(arguments, config.method)
        if target and not any(problem.field in ("name", "save_format") for problem in problems):
            publish.check_ours(target / config.model_file(config.name))
    except UserError as error:
        problems.append(error.problem)
    if problems:
        settings.print_problems(problems)
        return BAD_INPUT
    settings.print_choices(choices)
    count = pictures.trained(entries)
    settings.print_warnings([*advice.warnings(config, count), *pictures.warnings(config, entries)])
    environment = Environment()
    environment.ensure()
    run = runs.create(arguments.runs_dir, runs.absolute(config))
    say(f"run {run.id} in {run.path}")
    code = Follower(run, environment, target, links.of(config)).train()
    if code == BAD_INPUT and run.state()["step"] == 0:
        run.delete()  # refused before it trained: there is nothing in it to go on with
    return code
