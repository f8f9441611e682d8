"""`download`: a model by its link, into the folder where the WebUI finds it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from ...core.config import links
from ...core.verbs import download_options
from ...core.verbs.path_option import path
from ...host.environment.environment import REPOSITORY, Environment
from ...host.hosts import publishing_targets
from ...host.hosts.folder_host import FolderHost

HELP = "download a model by its link: Hugging Face, Civitai, Google Drive, Dropbox or the file itself"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    download_options.add_arguments(parser)
    for program, name in publishing_targets.PROGRAMS.items():
        parser.add_argument(f"--{program}", type=path, metavar="DIR", help=f"put it into this {name}'s folders")


def run(arguments: argparse.Namespace) -> int:
    words = [f"--folder={kind}={folder}" for kind, folder in folders(arguments).items()]
    words += [f"--file={name}" for name in arguments.file]
    words += [f"--into={arguments.into.absolute()}"] if arguments.into else []
    words += [f"--{name.replace('_', '-')}" for name in ("any_file", "yes", "discard") if getattr(arguments, name)]
    link, variables = links.handed([arguments.link])
    words = ["-m", "dreambooth_ext.engine", "download", *words, "--", *link]
    return Environment().run_inside(words, variables, replace=True)


def folders(arguments: argparse.Namespace) -> dict[str, str]:
    """Kind -> folder: of the program that is named, of the WebUI around this extension, else of the tab without one.
    Raises UserError."""
    found: Mapping[str, Path]
    if named := publishing_targets.named_option(arguments):
        found = publishing_targets.target(named, getattr(arguments, named)).folders
    elif REPOSITORY.parent.name == "extensions":
        found = publishing_targets.target("webui", REPOSITORY.parent.parent).folders
    else:
        found = FolderHost(REPOSITORY).folders()
    return {kind: str(folder) for kind, folder in found.items() if kind in download_options.KINDS}
