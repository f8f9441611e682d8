"""Sets up a run's shards, for all of its processes."""

from __future__ import annotations

import shutil
from functools import partial

from accelerate import Accelerator

from ...core.config import links
from ...core.config.stages import ResolvedConfig
from ...core.data.concepts import Subjects
from ...core.messages.message import Message
from ...core.runs.run_folder import Run
from ..models.base import Base
from ..runtime import distributed
from ..runtime.control import Control
from . import opening
from .shard_dataset import ShardDataset

READING = Message("stages.reading_shards")


def of_run(
    config: ResolvedConfig, subjects: Subjects, base: Base, run: Run, control: Control, accelerator: Accelerator
) -> ShardDataset:
    """Return the data set of a run on shards, whose pictures are read while it trains. Raises UserError if they cannot
    be."""
    config = links.restored(config, control.links)
    found, is_first, folder = opening.listed(config), distributed.is_first(), run.path / opening.FOLDER
    rank, world = accelerator.process_index, accelerator.num_processes
    rows = opening.noted(run.path, found, control.warn) if is_first else []
    shards = opening.of_run(distributed.Company(rank, world).of_all(rows)[0], found, by_time=is_first)
    if accelerator.is_local_main_process:
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier session
    if is_first:
        opening.look(config, subjects, shards)
    # one process must not leave the others waiting for it in the middle of a step
    wait = partial(control.stage if world == 1 else control.beside, READING)
    return ShardDataset(
        config,
        subjects,
        shards,
        folder,
        control.warn,
        scaling_factor=base.scaling_factor,
        inpainting=base.inpainting,
        world=world,
        wait=wait,
    )
