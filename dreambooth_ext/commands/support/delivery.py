"""Publishes the models of runs that are trained from a terminal: folders are chosen at the start and kept with the
run."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import IO

from ...core.checks import config_checks
from ...core.config.run_config import RunConfig
from ...core.data.concepts import Subjects
from ...core.data.entry import Entry
from ...core.errors import Problem, UserError
from ...core.facts.methods import MODEL_KINDS
from ...core.runs import conclusion, job_options
from ...core.runs.events import ENDED
from ...core.runs.job_options import JobOptions
from ...core.runs.leader_lock import LeaderLock
from ...core.runs.run_folder import Run
from ...core.system.terminal import say
from ...core.verbs.path_option import path
from ...host.hosts import host_limits, publishing_targets
from ...host.publishing import model_files, word_conflicts
from ...host.publishing.publisher import Publisher, Terminal, due

PATIENCE = 20.0  # seconds for a worker to be gone whose terminal was closed: it saves its state first


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for program, name in publishing_targets.PROGRAMS.items():
        help = f"publish the last model into this {name}'s folders"
        parser.add_argument(f"--{program}", type=path, metavar="DIR", help=help)
    parser.add_argument("--output-dir", type=path, metavar="DIR", help="publish all models into this folder")
    parser.add_argument("--publish-intermediate", nargs="?", const="true", choices=("true", "false"),
                        metavar="true|false", help="publish intermediate models, too "
                        "(default: with --output-dir yes, else only the last one)")  # fmt: skip


def publishes_intermediate(arguments: argparse.Namespace) -> bool:
    """Whether the models of saves on the way go into the folder that is named, too: as it was said, else not into a
    program, in whose lists each would stay."""
    said = arguments.publish_intermediate
    return said == "true" if said else not named_program(arguments)


def named_program(arguments: argparse.Namespace) -> str:
    """The program, one of publishing_targets.PROGRAMS, whose folder was named; "" without. Raises UserError."""
    named = publishing_targets.named_option(arguments, (*publishing_targets.PROGRAMS, "output_dir"))
    return "" if named == "output_dir" else named


def named_folders(arguments: argparse.Namespace, config: RunConfig) -> dict[str, str] | None:
    """The folders, by kind, that take a run's models; None where none was named. Raises UserError, also where the
    program that was named cannot use them."""
    program, folder, method = named_program(arguments), arguments.output_dir, config.method
    if not program and not folder:
        return None
    field = program or "output_dir"
    if MODEL_KINDS[method] not in publishing_targets.WEBUI_FOLDERS:
        raise UserError("command.no_webui_loads", field)
    target = publishing_targets.target(program, getattr(arguments, program)) if program else None
    found = target.folders if target else dict.fromkeys(publishing_targets.WEBUI_FOLDERS, folder)
    for problem in config_checks.folder_problems(field, found[MODEL_KINDS[method]]):
        raise problem.as_error()
    for problem in host_limits.problems(target.lacks, target.refused, config) if target else ():
        raise problem.as_error()
    return {kind: str(path.absolute()) for kind, path in found.items()}


def checked_folders(arguments: argparse.Namespace, config: RunConfig, problems: list[Problem]) -> dict[str, str] | None:
    """`named_folders`, and whether the model may be written there; adds what is wrong to `problems`."""
    try:
        folders = named_folders(arguments, config)
        if arguments.publish_intermediate and folders is None:
            raise no_folder()
        if arguments.publish_intermediate == "true" and not config.save_intermediate_models:
            problems.append(Problem("effect.no_intermediate", "publish_intermediate"))
        if folders and not any(problem.field in ("name", "save_format") for problem in problems):
            model_files.check_ours(Path(folders[MODEL_KINDS[config.method]], config.model_file(config.name)))
        return folders
    except UserError as error:
        problems.append(error.problem)
        return None


def no_folder() -> UserError:
    return UserError("command.no_folder", "publish_intermediate")


def clashes(
    arguments: argparse.Namespace,
    config: RunConfig,
    entries: list[Entry],
    subjects: Subjects,
    folders: dict[str, str] | None,
) -> list[Problem]:
    """Warnings: words that are embeddings of the named program, and an earlier run's model that will be replaced."""
    embeddings = Path(folders["textual_inversion"]) if folders and not arguments.output_dir else None
    target = folders[MODEL_KINDS[config.method]] if folders else None
    return [
        *word_conflicts.taken(config, entries, subjects.concepts, embeddings),
        *model_files.replaced(config, target),
    ]


def wished(folders: dict[str, str] | None, intermediate: bool) -> JobOptions | None:
    """The publishing options of a new run. intermediate: publish intermediate models, too."""
    if folders is None:
        return None
    return JobOptions(intermediate=intermediate, select="never", folders=folders, by_terminal=True)


def renewed(run: Run, folders: dict[str, str] | None, arguments: argparse.Namespace) -> JobOptions | None:
    """The publishing options of a resumed run: as before, unless options say otherwise. A new folder gets all models
    from the run's beginning. Raises UserError."""
    old = job_options.read(run)
    if folders is None and old is None and not arguments.publish_intermediate:
        return None
    known = (old or JobOptions(select="never")).but(settled=False)
    if arguments.publish_intermediate and folders is None and not ((usable := here(known)) and usable.folders):
        raise no_folder()
    if arguments.publish_intermediate or (folders and folders != (known.folders or known.host_folders)):
        known = known.with_intermediate(publishes_intermediate(arguments))
    if folders is not None:
        return known.but(publish=True, folders=folders, by_terminal=True, since=0)
    return known


def claimed(run: Run) -> IO[bytes]:
    """Claim the run for this terminal, once its worker is gone. Raises UserError if it does not end."""
    deadline = time.monotonic() + PATIENCE
    while True:
        held = run.is_alive()
        lock = None if held else run.claim(0.2)
        if lock:
            return lock
        if time.monotonic() > deadline or not held:
            raise _taken(run, held)
        time.sleep(0.2)


def _taken(run: Run, held: bool) -> UserError:
    if not held:
        return UserError("command.run_taken", "run", run=run.id)
    if run.last_word() or run.state()["status"] in ENDED:
        return UserError("command.run_hangs", "run", run=run.id, path=str(run.path))
    return UserError("command.run_trains", "run", run=run.id, path=str(run.path))


def here(wanted: JobOptions | None) -> JobOptions | None:
    """The publishing options as a terminal can carry them out: into the named folders, else those of the host that
    queued the run. None if nothing is to be published."""
    return wanted.but(folders=wanted.folders or wanted.host_folders) if wanted and wanted.publish else None


def publish_due(run: Run, wanted: JobOptions | None, again: bool = False) -> tuple[list[Path], list[Problem]]:
    """Publish the models without a `published` event; returns their paths, and problems, which are also printed.

    The run must be claimed. again: retry models that could not be published before.
    """
    wanted = here(wanted)
    if wanted is None or not (models := due(run, wanted, again)):
        return [], []
    last = max(event["n"] for event in run.events.read())
    Publisher(Terminal()).publish_wanted(run, wanted, models)
    told = run.events.read(after=last)
    refused = [it for it in told if it["type"] == "warning" and "artifact" in it]  # a worker warns meanwhile, too
    problems = [Problem.from_dict({**it, "message": it["what"]}) for it in refused]
    for problem in problems:
        say(f"warning: {problem}")
    return [Path(event["path"]) for event in told if event["type"] == "published"], problems


def conclude(run: Run, wanted: JobOptions | None) -> None:
    """Record how the run ended and that nothing is left to publish, once everything is published."""
    concluded, usable = conclusion.conclude(run), here(wanted)
    if concluded and wanted and (usable is None or usable.folders):
        wanted.but(settled=True).write(run)


def deliver_left(run: Run) -> list[Path]:
    """Publish models still due from a run whose terminal was closed or killed; [] if there are none, or it is claimed.

    A run of a closed host is left to the next host; only its ending is recorded here, if no model is due.
    """
    wanted = job_options.read(run)
    owes = run.last_word() is not None or (wanted is not None and not wanted.settled)
    if not owes or run.is_alive() or run.state()["status"] == "queued":
        return []
    is_host_s = wanted is not None and not wanted.by_terminal
    if wanted and is_host_s and (LeaderLock(run.path.parent).is_taken() or due_of_host(run, wanted)):
        return []
    lock = run.claim(0)
    if lock is None:
        return []
    with lock:
        if is_host_s:
            conclusion.conclude(run)
            return []
        published, _ = publish_due(run, wanted)
        conclude(run, wanted)
    return published


def due_of_host(run: Run, wanted: JobOptions) -> bool:
    """Whether a model waits to be published by a host."""
    return any(wanted.wants(event) for event in due(run, wanted))
