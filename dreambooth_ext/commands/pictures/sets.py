"""`sets`: list, rename, export and import sets of pictures."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from typing import Any

from ...core.errors import UserError
from ...core.runs import run_folder
from ...core.system import files
from ...core.system.terminal import say
from ...core.verbs.path_option import path
from ...host.environment.environment import Environment
from ...host.pictures import set_about
from ...host.pictures.uploads import PictureSets
from ...host.service.set_users import SetUsers
from ..support.exit_status import DONE

HELP = "list, rename, export and import the sets of pictures that the tab keeps"
PICTURES = run_folder.DEFAULT_RUNS_DIR.parent / "pictures"  # where the tab without a WebUI keeps them
ACTIONS = ("list", "rename", "export", "import")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="default: list")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="rename SET TITLE; export SET FILE.zip; import FILE.zip"
    )
    parser.add_argument("--title", metavar="TITLE", default="", help="import: instead of the zip's own title")
    parser.add_argument("--pictures-dir", type=path, metavar="DIR", help="folder of the sets; a WebUI has it in "
                        "dreambooth/pictures (default: pictures, beside the program)")  # fmt: skip
    parser.add_argument(
        "--runs-dir", type=path, metavar="DIR", default=run_folder.DEFAULT_RUNS_DIR, help="folder of the runs"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    wanted = {"list": 0, "rename": 2, "export": 2, "import": 1}[arguments.action]
    if len(arguments.names) != wanted:
        raise UserError("sets.arguments", "sets", action=arguments.action, count=wanted)
    if arguments.action == "import" and not importlib.util.find_spec(
        "PIL"
    ):  # pictures are decoded before they are kept
        return Environment().run_inside(["-m", "dreambooth_ext", "sets", *arguments.given], replace=True)
    sets = PictureSets((arguments.pictures_dir or PICTURES).absolute())
    work = {"list": listed, "rename": renamed, "export": exported, "import": imported}[arguments.action]
    answer, lines = work(sets, arguments)
    if arguments.json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        say(*lines, stream=sys.stdout)
    return DONE


def listed(sets: PictureSets, arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    runs = SetUsers(arguments.runs_dir, sets.folder).runs_of()
    known = [{**one, "runs": runs.get(one["name"], [])} for one in sets.sets()]
    lines = []
    for one in known:
        title = f"  {one['title']}" if one["title"] else ""
        lines.append(f"{one['name']}{title}  {one['count']} pictures  {one['folder']}")
        lines += [f"    {run['id']}" for run in one["runs"]]
    return known, lines or ["There are no sets yet."]


def renamed(sets: PictureSets, arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    name, title = arguments.names
    folder = sets.find(name)
    kept = set_about.write_title(folder, title)
    return {"set": folder.name, "title": kept}, [f"{folder.name} is called {kept or folder.name} now"]


def exported(sets: PictureSets, arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    from ...host.pictures import set_archive

    folder, target = sets.find(arguments.names[0]), path(arguments.names[1])
    if target.exists():
        raise UserError("sets.file_exists", "file", file=str(target))
    with files.replacing(target) as temporary, temporary.open("wb") as stream:
        for block in set_archive.stream(folder):
            stream.write(block)
    return {"set": folder.name, "file": str(target)}, [f"{target}: {files.human_size(target.stat().st_size)}"]


def imported(sets: PictureSets, arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    from ...host.pictures import set_archive

    source = path(arguments.names[0])
    if not source.is_file():
        raise UserError("sets.no_file", "file", file=str(source))
    made = set_archive.read(sets, source, arguments.title)
    left = [f"left out: {', '.join(made['left_out'])}"] if made["left_out"] else []
    return made, [f"{made['set']}: {made['count']} pictures in {made['folder']}", *left]
