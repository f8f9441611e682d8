"""Check configs with the base and the machine at hand: `python -m dreambooth_ext.engine.deep_check` < JSON > JSON.

Each input line, {"config", "runs_dir", "links"}, is answered by a line {"plan", "problems", "warnings", "last"}, until
the input ends. `last` means that the process ends: if it has used a graphics card, it frees its memory that way.
Nothing is written except downloads.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from ..core.config import links, stages
from ..core.config.parsing import parse
from ..core.config.run_config import RunConfig
from ..core.config.stages import CompletedConfig, ResolvedConfig
from ..core.data import picture_entries
from ..core.data.concepts import Subjects
from ..core.data.entry import Entry
from ..core.errors import Problem, UserError
from ..core.system import files
from ..core.system.terminal import shield
from . import plan
from .data import hub_dataset
from .data.dataset import Dataset
from .models.base import Base
from .runtime.device import choose_device, take_device
from .sampling import class_images
from .shards import opening
from .training.backbones import STARTS

MOST_READ = 1000  # pictures


def inspect(values: dict[str, Any], runs_dir: Path, given: Iterable[str] = ()) -> dict[str, Any]:
    """Return the plan of a completed config, and the problems that only base, pictures and machine can show."""
    config = links.restored(stages.completed(parse(values)[0]), given)
    try:
        with contextlib.closing(STARTS[config.method].open(config)) as base:
            take_device(str(choose_device(config.device)))
            return look(config, base, runs_dir)
    except UserError as error:
        return answer({}, [error.problem], [])


def look(asked: CompletedConfig, base: Base, runs_dir: Path) -> dict[str, Any]:
    config = plan.resolve(asked, base)
    problems = plan.problems(config, base)
    subjects = Subjects.of(config)
    warnings: list[Problem] = [*plan.warnings(asked, config, base)]
    found, missing = [], 0
    try:
        config = class_images.with_folders(config, subjects, base, runs_dir / "class_pictures")
        subjects = Subjects.within(config, subjects.data_set)
        missing = sum(lacks for _, lacks in class_images.missing(config, subjects).values())
        found = readable(config, subjects, base, warnings)
    except UserError as error:
        problems.append(error.problem)
    count = picture_entries.trained(found) or in_data_set(config, problems, warnings)
    problems += in_shards(config, subjects)
    steps, epochs = plan.length(config, count)
    classes = sum(entry.is_class for entry in found) + missing
    held = sum(entry.is_held for entry in found)
    try:
        made = plan.make_plan(
            config, base, subjects, count, classes, steps, epochs, files.free_bytes(runs_dir), missing, held
        )
    except UserError as error:  # a file that the run starts from cannot be read
        problems += [] if error.problem in problems else [error.problem]
        return answer({}, problems, warnings)
    problems += plan.resource_problems(made, config)
    warnings += plan.resource_warnings(made, config)
    return answer(made.as_dict(), problems, warnings)


def answer(plan: dict[str, Any], problems: list[Problem], warnings: list[Problem]) -> dict[str, Any]:
    warned = [warning.as_dict() for warning in warnings]
    return {"plan": plan, "problems": [problem.as_dict() for problem in problems], "warnings": warned}


def in_data_set(config: RunConfig, problems: list[Problem], warnings: list[Problem]) -> int:
    """Return the number of pictures in a data set that is not downloaded yet; 0 if its files do not tell."""
    if not config.dataset_name or config.train_data_dir:
        return 0
    try:
        count = hub_dataset.count(config.dataset_name)
    except UserError as error:
        problems.append(error.problem)
        return 0
    if count is None:
        warnings.append(Problem("plan.pictures_unknown"))
    return count or 0


def in_shards(config: ResolvedConfig, subjects: Subjects) -> list[Problem]:
    """Return what keeps a run from reading the shards that it is to train on."""
    if not config.train_shards_path_or_url:
        return []
    try:
        opening.look(config, subjects, opening.listed(config))
    except UserError as error:
        return [error.problem]
    return []


def readable(config: ResolvedConfig, subjects: Subjects, base: Base, warnings: list[Problem]) -> list[Entry]:
    """Return the pictures that can be decoded, and name broken ones in `warnings`. Raises UserError if none is left.

    Of very many pictures only an even selection is checked, so that the answer comes in time.
    """
    entries, problems = picture_entries.entries(config, subjects)
    if problems or (not entries and (config.dataset_name or config.train_shards_path_or_url)):
        return []  # already reported by `checks`, or still on Hugging Face
    looked_at = entries[:: -(-len(entries) // MOST_READ)] if entries else []
    prior = any(entry.is_class for entry in looked_at)  # missing ones are drawn by the run
    uncached = config.replace(cache_latents=False, cache_latents_to_disk=False, with_prior_preservation=prior)
    dataset = Dataset(uncached, subjects, looked_at, base.scaling_factor)
    dataset.encode(None, warn=warnings.append)
    if len(looked_at) < len(entries):
        warnings.append(Problem("plan.some_pictures", count=len(looked_at), total=len(entries)))
    sound = {picture.entry for picture in (*dataset.pictures, *dataset.held)}
    broken = {entry.path for entry in looked_at if entry not in sound}
    return [entry for entry in entries if entry.path not in broken]


def main() -> int:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keep anything that libraries print, also from C, out of the answers
    mine = links.taken()
    for line in sys.stdin:
        asked = json.loads(line)
        found = inspect(asked["config"], Path(asked["runs_dir"]), [*mine, *asked.get("links", [])])
        last = torch.cuda.is_initialized()
        print(json.dumps({**found, "last": last}, ensure_ascii=False), file=answers, flush=True)
        if last:
            break
    return 0


if __name__ == "__main__":
    shield()
    sys.exit(main())
