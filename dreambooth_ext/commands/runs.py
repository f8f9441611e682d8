"""`runs`: list, show, describe, stop and delete runs, and the report of one for an issue."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from typing import Any

from ..core.config.run_config import SETTINGS
from ..core.errors import Problem, UserError
from ..core.messages.message import written
from ..core.runs import notes, run_folder, run_list, training_states
from ..core.system.files import human_size
from ..core.system.terminal import clock, say
from ..core.verbs.path_option import path
from ..host.environment.environment import Environment
from ..host.service import report
from .support import delivery, stopping
from .support.exit_status import DONE

HELP = "list, show, note, star, stop and delete runs; report prints what an issue about one needs"
ACTIONS = ("list", "show", "note", "star", "unstar", "stop", "report", "delete-states", "delete")
NEED_NAMES = ("note", "star", "unstar", "stop", "delete-states", "delete")  # for "the newest" would be a guess
LONGEST_VALUE = 200  # letters of a setting that `show` prints


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="default: list")
    parser.add_argument("run", nargs="*", metavar="RUN", help="the run's folder, id or name; 'last' is the newest")
    parser.add_argument(
        "--runs-dir", type=path, metavar="DIR", default=run_folder.DEFAULT_RUNS_DIR, help="folder of the runs"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--save", action="store_true", help="stop: save a model, too")
    how.add_argument("--kill", action="store_true", help="stop: end a worker that hangs, at once and without saving")
    parser.add_argument("--text", metavar="TEXT", help="note: what to write; an empty text removes it")
    parser.add_argument("--search", default="", metavar="WORDS", help="list: only runs with these words in their name, "
                        "method, word, base or note")  # fmt: skip
    parser.add_argument("--sort", choices=run_list.SORTS, default="newest", help="list: order; default: newest first")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    if arguments.text is not None and arguments.action != "note":
        raise UserError("command.option_unused", "run", action=arguments.action, option="--text")
    if (arguments.save or arguments.kill) and arguments.action != "stop":
        raise UserError("command.only_for_stop", "run")
    if arguments.action == "list":
        found = run_list.list_runs(arguments.runs_dir)
        deliver(found)
        known = [item for item in map(describe, found) if run_list.matches(item, arguments.search)]
        known = run_list.in_order(known, arguments.sort)
        _print(known, arguments.json, _table(known))
        return DONE
    if arguments.action == "report":
        return give_report(arguments)
    if arguments.action in NEED_NAMES and not arguments.run:
        raise UserError("command.no_run_named", "run", action=arguments.action)
    chosen = [run_list.find(arguments.runs_dir, name) for name in arguments.run or ["last"]]
    if arguments.action == "delete":
        for run in chosen:
            size = run.size()
            run.delete()
            say(f"deleted {run.id}, {human_size(size)}", stream=sys.stdout)
        return DONE
    if arguments.action == "delete-states":
        for run in chosen:
            freed = training_states.delete(run)
            say(f"deleted the training states of {run.id}, {human_size(freed)}; its models are kept", stream=sys.stdout)
        return DONE
    if arguments.action in ("note", "star", "unstar"):
        starred = None if arguments.action == "note" else arguments.action == "star"
        noted = [{"id": run.id, **notes.change(run, arguments.text, starred).as_dict()} for run in chosen]
        _print(noted if len(noted) > 1 else noted[0], arguments.json, [line for one in noted for line in _noted(one)])
        return DONE
    if arguments.action == "stop":
        return max([stopping.stop(run, arguments.save, arguments.kill) for run in chosen])
    deliver(chosen)
    shown = [{**describe(run), **places(run), "settings": settings(run)} for run in chosen]
    details = [line for item in shown for line in ("", *_details(item))][1:]
    _print(shown if len(shown) > 1 else shown[0], arguments.json, details)
    return DONE


def give_report(arguments: argparse.Namespace) -> int:
    """Print the report of the named runs or else the newest; without any run, a report of the machine."""
    chosen: list[run_folder.Run | None] = [run_list.find(arguments.runs_dir, name) for name in arguments.run]
    if not chosen:
        chosen = [*run_list.list_runs(arguments.runs_dir)[:1]] or [None]
    environment = Environment().status().as_dict()
    texts = [report.report(run, environment, "command line") for run in chosen]
    given = [{"text": text} for text in texts]
    _print(given if len(given) > 1 else given[0], arguments.json, "\n".join(texts).splitlines())
    return DONE


def deliver(found: list[run_folder.Run]) -> None:
    """Publish models that are still due because a run's terminal was closed or killed."""
    for run in found:
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, UserError):  # damaged
            for path in delivery.deliver_left(run):
                say(f"published {path} of {run.id}, which was still waiting")


def places(run: run_folder.Run) -> dict[str, Any]:
    """A run's folder and models, and whether some of them still wait to be published by a host that is gone."""
    owes = run.owes() and not run.is_held() and not run.is_followed()
    return {"path": str(run.path), "artifacts": run.artifact_events(), "owes": owes}


def settings(run: run_folder.Run) -> dict[str, Any]:
    """What differs from the defaults, by the settings' names; nothing of a damaged run."""
    try:
        config = run.config.as_dict()
    except UserError:
        return {}
    return {name: value for name, value in config.items() if value is not None and value != SETTINGS[name].default}


def describe(run: run_folder.Run) -> dict[str, Any]:
    """`run_list.describe`; a damaged run is listed as damaged, so that it does not hide the others."""
    try:
        return run_list.describe(run)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, UserError) as error:
        why = error.problem.message if isinstance(error, UserError) else str(error)
        problem = Problem("command.run_damaged", "run", error=why, path=str(run.path))
        known = {"id": run.id, "name": "", "method": "?", "size": run.size(), "status": "damaged", "step": 0}
        known |= {"seconds": None, **notes.read(run).as_dict()}
        return {**known, "problem": problem.as_dict()}


def _print(value: Any, as_json: bool, lines: list[str]) -> None:
    if as_json:
        print(json.dumps(value, ensure_ascii=False, indent=2))
    else:
        say(*lines, stream=sys.stdout)


def _table(known: list[dict[str, Any]]) -> list[str]:
    if not known:
        return ["There are no runs yet."]
    rows = [("RUN", "METHOD", "STATUS", "STEP", "TIME", "SIZE", "NOTE")]
    for item in known:
        step = f"{item['step']}/{item.get('total') or '?'}"
        about = (("* " if item["starred"] else "") + item["note"].partition("\n")[0])[:60].strip()
        time_taken = "" if item["seconds"] is None else clock(item["seconds"])
        rows.append((item["id"], item["method"], item["status"], step, time_taken, human_size(item["size"]), about))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _noted(item: dict[str, Any]) -> list[str]:
    lines = item["note"].splitlines()
    return [f"{item['id']}{'  *' if item['starred'] else ''}", *(f"         {line}" for line in lines)]


def _setting(name: str, value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else written(value)
    text = text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + " ..."
    return f"         {SETTINGS[name].label}: {text}"


def _details(item: dict[str, Any]) -> list[str]:
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(item["created"])) if "created" in item else "?"
    lines = [
        f"{item['id']}{'  *' if item['starred'] else ''}  {item['status']}, "
        f"step {item['step']} of {item.get('total') or '?'}",
        f"made     {made} with {item['method']}",
        f"folder   {item['path']}  {human_size(item['size'])}",
    ]
    if item["seconds"] is not None:
        lines.append(f"trained  {clock(item['seconds'])}")
    if item["note"]:
        lines += [f"note     {line}" for line in item["note"].splitlines()]
    problem = item.get("problem")
    if problem:
        lines.append(f"problem  {problem['message']} {problem['remedy']}")
    if item["owes"]:
        lines.append("owes     models, which the WebUI publishes when it starts; `resume` does so, too")
    lines += [f"model    {artifact['path']}" for artifact in item["artifacts"]]
    if item["settings"]:
        lines += ["settings", *(_setting(name, value) for name, value in item["settings"].items())]
    return lines
