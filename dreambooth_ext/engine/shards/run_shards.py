"""Sets up a run's shards, for all of its processes."""

from __future__ import annotations

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
    found, world = opening.listed(config), accelerator.num_processes
    with accelerator.main_process_first():
        if distributed.is_first():
            opening.prepare(run.path, found, control.warn)
            opening.look(config, subjects, found)
    # one process must not leave the others waiting for it in the middle of a step
    wait = partial(control.stage if world == 1 else control.beside, READING)
    return ShardDataset(
        config,
        subjects,
        opening.of_run(run.path, found),
        run.path / opening.FOLDER,
        control.warn,
        scaling_factor=base.scaling_factor,
        inpainting=base.inpainting,
        world=world,
        wait=wait,
    )
