"""`runs`: list, show, stop and delete runs, and print a report of one for an issue."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from typing import Any

from ..core.errors import Problem, UserError
from ..core.runs import run_folder, run_list
from ..core.system.files import human_size
from ..core.system.terminal import say
from ..host.environment.environment import Environment
from ..host.service import report
from .support import delivery, stopping
from .support.config_options import path
from .support.exit_status import DONE

HELP = "list, show, stop and delete runs; report prints what an issue about one needs"
ACTIONS = ("list", "show", "stop", "report", "delete")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="default: list")
    parser.add_argument("run", nargs="*", metavar="RUN", help="the run's folder, id or name; 'last' is the newest")
    parser.add_argument(
        "--runs-dir", type=path, metavar="DIR", default=run_folder.DEFAULT_RUNS_DIR, help="folder of the runs"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--save", action="store_true", help="stop: save a model, too")
    how.add_argument("--kill", action="store_true", help="stop: end a worker that hangs, at once and without saving")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    if (arguments.save or arguments.kill) and arguments.action != "stop":
        raise UserError("command.only_for_stop", "run")
    if arguments.action == "list":
        found = run_list.list_runs(arguments.runs_dir)
        deliver(found)
        known = [describe(run) for run in found]
        _print(known, arguments.json, _table(known))
        return DONE
    if arguments.action == "report":
        return give_report(arguments)
    if arguments.action in ("stop", "delete") and not arguments.run:
        raise UserError("command.no_run_named", "run", action=arguments.action)
    chosen = [run_list.find(arguments.runs_dir, name) for name in arguments.run or ["last"]]
    if arguments.action == "delete":
        for run in chosen:
            size = run.size()
            run.delete()
            say(f"deleted {run.id}, {human_size(size)}", stream=sys.stdout)
        return DONE
    if arguments.action == "stop":
        return max([stopping.stop(run, arguments.save, arguments.kill) for run in chosen])
    deliver(chosen)
    shown = [{**describe(run), **places(run)} for run in chosen]
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


def describe(run: run_folder.Run) -> dict[str, Any]:
    """`run_list.describe`; a damaged run is listed as damaged, so that it does not hide the others."""
    try:
        return run_list.describe(run)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, UserError) as error:
        why = error.problem.message if isinstance(error, UserError) else str(error)
        problem = Problem("command.run_damaged", "run", error=why, path=str(run.path))
        known = {"id": run.id, "name": "", "method": "?", "size": run.size(), "status": "damaged", "step": 0}
        return {**known, "problem": problem.as_dict()}


def _print(value: Any, as_json: bool, lines: list[str]) -> None:
    if as_json:
        print(json.dumps(value, ensure_ascii=False, indent=2))
    else:
        say(*lines, stream=sys.stdout)


def _table(known: list[dict[str, Any]]) -> list[str]:
    if not known:
        return ["There are no runs yet."]
    rows = [("RUN", "METHOD", "STATUS", "STEP", "SIZE")]
    for item in known:
        step = f"{item['step']}/{item.get('total') or '?'}"
        rows.append((item["id"], item["method"], item["status"], step, human_size(item["size"])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _details(item: dict[str, Any]) -> list[str]:
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(item["created"])) if "created" in item else "?"
    lines = [
        f"{item['id']}  {item['status']}, step {item['step']} of {item.get('total') or '?'}",
        f"made     {made} with {item['method']}",
        f"folder   {item['path']}  {human_size(item['size'])}",
    ]
    problem = item.get("problem")
    if problem:
        lines.append(f"problem  {problem['message']} {problem['remedy']}")
    if item["owes"]:
        lines.append("owes     models, which the WebUI publishes when it starts; `resume` does so, too")
    lines += [f"model    {artifact['path']}" for artifact in item["artifacts"]]
    return lines
