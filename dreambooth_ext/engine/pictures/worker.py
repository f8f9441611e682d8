"""The picture worker: answers questions about picture files, in a process that a hostile file may hang or end.

`python -m dreambooth_ext.engine pictures` reads questions from standard input, one JSON object a line,

    {"id": 7, "task": "look", "values": {"path": "/pictures/a.jpg"}}

and answers each, in order, with a line {"id": 7, "result": ...}, or {"id": 7, "problem": ...} as `Problem.as_dict` has
it. The first line says {"ready": true}. The process ends with its input, and so whenever the one that asks does;
`host/pictures/picture_worker.py` is that one: it starts the worker, ends one that has nothing to do, and kills one that
takes too long.

A task is a function in a module of this room, or of one beside it, such as the doctor's. To add one, write the function
and its row in TASKS: its module is imported at the first question, so that the start stays quick. It takes `values` as
keyword arguments, all of them JSON, and returns JSON. What is no JSON, such as a picture, it writes into a file that
`values` name (`write_picture` in `conversion.py`). It raises UserError for what the user's file is at fault for. It
imports no PyTorch.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from typing import IO, Any

from ...core.errors import Problem, UserError
from ...core.messages.message import reason_of
from ...core.system.files import parse_json

# name of the task -> its module, seen from this room, and the function in it
TASKS: dict[str, tuple[str, str]] = {
    "size": ("looking", "size"),
    "render": ("editing", "render"),
    "carry": ("editing", "carry"),
    "mask": ("editing", "mask"),
    "convert": ("conversion", "convert"),
    "look": (".doctor.looking", "look"),
    "judge": (".doctor.whole_set", "judge"),
    "sheet": ("contact_sheet", "sheet"),
    "make_mask": ("masks", "make_mask"),
}
NICENESS = 5  # of the process, so that it leaves the processor to training and drawing


def run(arguments: argparse.Namespace) -> list[str]:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keep anything that libraries print, also from C, out of the answers
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    _say(answers, {"ready": True})
    for line in sys.stdin:
        _say(answers, answered(parse_json(line)))
    return []


def answered(question: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one question; a fault of our own is a problem in it, too, and the worker goes on."""
    known = {"id": question["id"]}
    try:
        module, function = TASKS[question["task"]]
        task = getattr(importlib.import_module(f".{module}", __package__), function)
        return {**known, "result": task(**question["values"])}
    except UserError as error:
        return {**known, "problem": error.problem.as_dict()}
    except MemoryError:
        return {**known, "problem": Problem("findings.no_memory").as_dict()}
    except Exception as error:
        about = f"{type(error).__name__}: {reason_of(error)}"
        return {**known, "problem": Problem("findings.failed", error=about).as_dict()}


def _say(answers: IO[str], value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False), file=answers, flush=True)
