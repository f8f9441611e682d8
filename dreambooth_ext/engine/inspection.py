"""A config looked at with the base and the machine at hand: `python -m dreambooth_ext.engine.inspection` < JSON > JSON.

In: {"config", "runs_dir"}. Out, as the last line: {"plan", "problems", "warnings"}. Nothing is written.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from .. import files, pictures
from ..config import RunConfig
from ..errors import UserError
from ..parsing import parse
from . import class_images, plan
from .base import Base
from .dataset import Dataset
from .worker import open_chosen


def inspect(values: dict[str, Any], runs_dir: Path) -> dict[str, Any]:
    """The plan of a completed config, with the problems that only the base, the pictures and the machine can tell."""
    config, _ = parse(values)
    try:
        with contextlib.closing(open_chosen(config)) as base:
            return look(plan.resolve(config, base), base, runs_dir)
    except UserError as error:
        return {"plan": {}, "problems": [error.problem.as_dict()], "warnings": []}


def look(config: RunConfig, base: Base, runs_dir: Path) -> dict[str, Any]:
    problems, warnings = plan.problems(config, base), []
    found, missing = [], 0
    try:
        config = class_images.with_folders(config, base, runs_dir / "class_pictures")
        missing = sum(lacks for _, lacks in class_images.missing(config).values())
        found = readable(config, base, warnings)
    except UserError as error:
        problems.append(error.problem)
    count = sum(not p.entry.is_class for p in found)
    steps, epochs = plan.length(config, count)
    made = plan.make_plan(config, base, count, len(found) - count + missing, steps, epochs, files.free_bytes(runs_dir))
    problems += plan.resource_problems(made, config)
    return {"plan": made.as_dict(), "problems": [p.as_dict() for p in problems], "warnings": warnings}


def readable(config: RunConfig, base: Base, warnings: list[str]) -> list:
    """The pictures that can be decoded; broken ones are named in `warnings`. Raises UserError if none is left."""
    entries, problems = pictures.entries(config)
    if problems:
        return []  # told before, by `checks`
    prior = any(entry.is_class for entry in entries)  # where there are none yet, the run draws them
    uncached = config.replace(cache_latents=False, cache_latents_to_disk=False, with_prior_preservation=prior)
    dataset = Dataset(uncached, entries, base.architecture.vae["scaling_factor"])
    dataset.encode(None, warn=warnings.append)
    return dataset.pictures


def main() -> int:
    asked = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # libraries print what they like; our answer stays alone
        answer = inspect(asked["config"], Path(asked["runs_dir"]))
    print(json.dumps(answer, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
