"""The worker process of one run: `python -m dreambooth_ext.engine.worker RUN [--total N]`. All its output is in RUN.

Exit status: 0 done, 1 problems in the input, 3 the run failed, 130 stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ..core.config import links
from ..core.config.run_config import RunConfig
from ..core.config.stages import ResolvedConfig
from ..core.data import picture_entries, picture_list
from ..core.data.concepts import Subjects
from ..core.data.entry import Entry
from ..core.data.picture_entries import caches_latents
from ..core.errors import Problem, UserError
from ..core.messages.message import Message
from ..core.runs.leader_lock import LeaderLock
from ..core.runs.run_folder import Run
from ..core.system import environment_users, files
from ..core.system.terminal import open_missing_streams, say, say_traceback, shield
from . import agreement, plan
from .base_record import keep_base, note_base, wait_for_base
from .data import hub_dataset, latent_encoding
from .data.dataset import Dataset
from .downloads import refusals
from .downloads.progress_thread import Fetch
from .failures import BAD_INPUT, FAILED, connect, explain, fail, fail_for, with_state
from .launching import variables
from .launching.leash import Leash
from .launching.standard_input import take_standard_input
from .memory_choices import with_choices
from .methods import METHODS
from .models.base import Base
from .models.base_model import LatentBase
from .quantisation.precision import COMPUTED
from .runtime import cards, compilation, distributed, kernels, memory, process_group, vae_bands
from .runtime.accelerator import make_accelerator
from .runtime.control import Control, Follower, Stopped
from .runtime.device import take_device
from .sampling import class_images
from .shards.run_shards import of_run
from .training import loop_state, training_state
from .training.backbones import STARTS
from .training.fixed_loss import FixedLoss
from .training.loop import Loop
from .training.loss import Objective
from .training.measurements import Measurements
from .training.method import Method
from .training.noise_processes import NOISE_PROCESSES
from .training.run_outputs import Saver
from .training.validation_loss import Validation

DONE, STOPPED = 0, 130
CLASS_PICTURES, MEASURING, ENCODING = map(
    Message, ("stages.class_pictures", "stages.measuring", "stages.encoding_captions")
)


class BadInput(Exception):
    """Several problems at once, found before training."""

    def __init__(self, problems: list[Problem]):
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def main(argv: list[str] | None = None, leash: Leash | None = None) -> int:
    """leash: to the launcher that started this process as one of several."""
    parser = argparse.ArgumentParser(description="Train one run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--total", type=int, help="go on to this step")
    parser.add_argument("--distribution", default="", help="instead of the run's setting")
    parser.add_argument("--tied", action="store_true", help="stop when standard input closes")
    parser.add_argument("--led", action="store_true", help="stop when no host leads the runs any more and wished so")
    arguments = parser.parse_args(argv)
    variables.drop_leftovers()
    run = Run(arguments.run.resolve())
    lock = run.take() if distributed.is_first() else contextlib.nullcontext()
    if lock is None:
        say(f"{run.id} is being trained by another process.")
        return BAD_INPUT
    with lock, environment_users.joined(run.id), (Control if distributed.is_first() else Follower)(run) as control:
        control.leash = leash
        if arguments.tied:
            control.stop_with(take_standard_input())
        if arguments.led:
            control.stop_without(LeaderLock(run.path.parent))
        code = work(run, control, arguments.total, arguments.distribution)
        control.leave(code)
        return code


def work(run: Run, control: Control, total: int | None, distribution: str = "") -> int:
    """Train, and record how the run ended, whatever happens. distribution: instead of the run's setting, if any."""
    before = run.before()
    try:
        control.status("preparing", problem=None, problems=[], ending=None)
        ended = train(run, control, total, distribution)
    except BadInput as error:
        return fail(control, error.problems, BAD_INPUT, before)
    except Stopped:
        ended = "stopped"
    except UserError as error:
        if control.current == "preparing":
            return fail(control, [error.problem], BAD_INPUT, before)
        return fail(control, [with_state(error.problem, run)], FAILED)
    except Exception as error:
        is_exchange = process_group.is_exchange_error(error)
        if known := control.failure_of_another(wait=is_exchange):
            return fail_for(known[0], known[1], run, control)
        say_traceback(error)
        problem = explain(error, run, control.config or run.config)
        return fail_for(problem, FAILED, run, control, is_exchange)
    control.end(ended)
    return DONE if ended == "done" else STOPPED


def remove_unfinished(run: Run) -> None:
    """Delete what a kill has left half written, also within a model that is a folder or has one beside it."""
    models = [path for path in run.artifacts.rglob("*") if path.is_dir()]
    for folder in (run.path, run.path / "frozen", run.checkpoints, *run.samples.iterdir(), run.artifacts, *models):
        files.remove_unfinished(folder)


def train(run: Run, control: Control, total: int | None, distribution: str) -> str:
    """Run everything from opening the base to the final model. Returns "done" or "stopped"."""
    distributed.require_plain_launch()
    if distributed.processes() > 1 and not control.leash:
        control.leash = connect(run, control)
    if distributed.is_first():
        remove_unfinished(run)
    with contextlib.closing(open_base(run, control)) as base:
        device = cards.of_this_process(run.config.device)
        take_device(device)
        asked = with_choices(run)
        asked = asked.replace(distribution=distribution or asked.distribution)
        here = asked.replace(device=device, processes=distributed.processes())
        config = control.config = plan.resolve(here, base)
        for problem in distributed.drop_settings(config):
            control.warn(problem)
        if found := plan.problems(config, base):
            raise BadInput(found)
        is_old = keep_base(run, base, control)
        for warning in plan.warnings(asked, config, base):
            control.warn(warning)
        accelerator = make_accelerator(config)
        agreement.require_same_run(run, base.files, config)
        kernels.choose(config)
        config, subjects = with_pictures(config, base, run, control, accelerator, is_old)
        first = check_resources(config, subjects, base, run, control)
        dataset = gather(config, subjects, base, run, control, accelerator, first.encodes == plan.MEANWHILE)
        total = (
            total
            or run.state().get("total")
            or dataset.order.steps(config.num_train_epochs or 1, accelerator.num_processes)
        )
        total = distributed.of_first(total)  # another machine's copy of the run may say less
        config = config.replace(max_train_steps=total)
        resumed = starting_point(run, config, dataset, total, control, accelerator)
        step = resumed.step if resumed else 0
        made = plan_at_start(config, base, subjects, run, dataset, total, first.encodes)
        control.status("preparing", total=total, step=step, plan=made.as_dict())
        fixed = FixedLoss(config, dataset, run.path, total, resumed=step > 0)
        method = make_method(config, base, dataset, run, accelerator, resumed, control, fixed.captions)
        wait_for_base(base, control)
        base.files.require_unchanged()  # its parts were read at different times
        if distributed.is_first() and not is_old:
            note_base(run, base.files, base.files.wholes.notes())
        saver = Saver(run, config, base, method, control, dataset, accelerator)
        with contextlib.closing(saver), contextlib.closing(dataset):
            state = loop_state.begin(config, method, dataset, accelerator, total, resumed)
            shared = (config, method, dataset, accelerator, control, saver)
            measurements = Measurements(*shared, state, fixed, Validation(config, dataset, total))
            loop = Loop(*shared, total, state, measurements)
            if config.compile == "on" and state.step < total:
                control.progress(Message("stages.compiling"), 0, 0)
                if failure := compilation.compile_blocks(method.backbone.unet, loop.try_step):
                    control.warn(failure)
            ended = loop.run()
        accelerator.end_training()
        return ended


def open_base(run: Run, control: Control) -> Base:
    """Open the run's base, downloading it if it is a link or a Hugging Face name. A resumed run uses the file it
    started with."""
    config = links.restored(run.config, control.links)
    known = run.state().get("downloads") or {}
    fetch = Fetch(control.stage, known, lambda downloads: control.update(downloads=downloads))
    try:
        return STARTS[config.method].open(config, fetch)
    except UserError as error:
        problem = error.problem
        if problem.code not in refusals.OF_RUNS:
            raise
        raise UserError(refusals.OF_RUNS[problem.code], problem.field, **problem.values, run=run.id) from error


def with_pictures(
    config: ResolvedConfig, base: Base, run: Run, control: Control, accelerator: Accelerator, is_old: bool
) -> tuple[ResolvedConfig, Subjects]:
    """Return the config with folders for all pictures, and the run's subjects. A kohya data set's file, which may
    change while the run prepares, is only read here."""
    subjects = Subjects.of(config)
    folder = run.path.parent / "class_pictures"
    config = class_images.with_folders(config, subjects, base, folder, control.warn, is_old)
    with accelerator.main_process_first():
        config = hub_dataset.with_folder(config, run, control)
    return config, Subjects.within(config, subjects.data_set)


def starting_point(
    run: Run, config: ResolvedConfig, dataset: Dataset, total: int, control: Control, accelerator: Accelerator
) -> training_state.Checkpoint | None:
    """Return the training state to resume from, None at the first start. Raises UserError if it lies beyond step
    `total`, or if the processes would start differently."""
    with accelerator.main_process_first():
        resumed = training_state.latest(run.checkpoints, control.warn)
    step = resumed.step if resumed else 0
    agreement.require_same_start(run, [picture.entry for picture in dataset.pictures], step, config)
    if step > total:
        raise UserError("training.already_at_step", "max_train_steps", step=step)
    return resumed


def check_resources(config: ResolvedConfig, subjects: Subjects, base: Base, run: Run, control: Control) -> plan.Plan:
    """Return the plan, before anything is loaded. Raise BadInput if memory or disk is too small; warn if other programs
    use the memory."""
    entries = entries_of(config, subjects, run, control.warn)
    count = picture_entries.trained(entries)
    steps, epochs = plan.length(config, count)
    missing = sum(lacks for _, lacks in class_images.missing(config, subjects).values())
    classes = sum(entry.is_class for entry in entries) + missing
    held = sum(entry.is_held for entry in entries)
    made = plan.make_plan(config, base, subjects, count, classes, steps, epochs, free_bytes(run), missing, held)
    if found := plan.resource_problems(made, config):
        raise BadInput(found)
    for problem in plan.resource_warnings(made, config):
        control.warn(problem)
    return made


def plan_at_start(
    config: ResolvedConfig, base: Base, subjects: Subjects, run: Run, dataset: Dataset, total: int, encodes: str
) -> plan.Plan:
    """Return the plan once the data set is known, with nothing left to draw. encodes: as planned before it."""
    kinds = [picture.entry.is_class for picture in dataset.pictures]
    return plan.make_plan(
        config,
        base,
        subjects,
        pictures=kinds.count(False),
        class_pictures=kinds.count(True),
        steps=total,
        epochs=dataset.order.planned_epochs(total, config.processes),
        free=free_bytes(run),
        missing=0,
        held=len(dataset.held),
        encodes=encodes,
    )


def free_bytes(run: Run) -> int:
    """Return the bytes that a run can write: free space, and what it has written itself, which is replaced or already
    counted."""
    return files.free_bytes(run.path) + run.size()


def gather(
    config: ResolvedConfig,
    subjects: Subjects,
    base: Base,
    run: Run,
    control: Control,
    accelerator: Accelerator,
    meanwhile: bool,
) -> Dataset:
    """Set up the run's data set: draw missing class pictures and cache latents, after which the VAE is released.
    meanwhile: only check the pictures, and cache their latents when steps first need them."""
    if config.train_shards_path_or_url:
        return of_run(config, subjects, base, run, control, accelerator)
    device = accelerator.device
    with accelerator.main_process_first():
        if isinstance(base, LatentBase):  # unconditional models have no class pictures
            if not distributed.is_first():
                class_images.require_drawn(config, subjects)
            class_images.draw_missing(config, subjects, base, device, partial(control.stage, CLASS_PICTURES))
    memory.release()
    entries = entries_of(config, subjects, run)
    cache = run.path.parent / "latents"
    company = distributed.Company(accelerator.process_index, accelerator.num_processes)
    meanwhile = all(company.of_all(meanwhile))  # they differ in what memory is free
    if config.cache_latents_to_disk is None:
        needs = company.of_all(needs_disk(config, subjects, base, len(entries), cache, control))
        config = config.replace(cache_latents_to_disk=any(needs))
    dataset = Dataset(config, subjects, entries, base.scaling_factor, cache_dir=cache, inpainting=base.inpainting)
    vae = base.vae(torch.float32) if dataset.cached else None
    if vae is not None:
        vae = vae_bands.for_encoding(vae, config)
    stage = Message("stages.caching_latents" if dataset.cached and not meanwhile else "stages.reading_pictures")
    shown, measured = partial(control.stage, stage), partial(control.stage, MEASURING)
    dataset.encode(vae, device, shown, control.warn, measured, meanwhile, company)
    del vae
    memory.release()
    return dataset


def entries_of(
    config: RunConfig, subjects: Subjects, run: Run, warn: Callable[[Problem], None] | None = None
) -> list[Entry]:
    """Return the run's instance and class pictures as recorded (`picture_list`). Raises BadInput if some are missing or
    changed.

    warn: receives what the run leaves out, for a first check. Without it, pictures not recorded yet are recorded; by
    then class pictures have been drawn.
    """
    entries, problems = picture_entries.entries(config, subjects)
    if problems:
        raise BadInput(problems)
    kept: list[Entry] = []
    for are_class, field in ((False, "instance_data_dir"), (True, "class_data_dir")):
        own = [entry for entry in entries if entry.is_class == are_class]
        listed = picture_list.noted(run.path, are_class)
        if listed is None:
            if not warn and distributed.is_first():
                picture_list.note(run.path, own, are_class)
            kept += own
            continue
        found, changes = picture_list.compare(listed, own)
        if problem := changes.problem(field, run.id):
            raise BadInput([problem])
        if warn and (problem := changes.warning(field, run.id)):
            warn(problem)
        kept += found
    return kept


def needs_disk(
    config: ResolvedConfig, subjects: Subjects, base: Base, pictures: int, folder: Path, control: Control
) -> bool:
    """Whether latents are cached on disk if the config leaves it open: memory must not grow with the number of
    pictures."""
    need, limit = (
        latent_encoding.most_bytes(config, subjects, pictures),
        latent_encoding.memory_limit(memory.total(torch.device("cpu"))),
    )
    if not caches_latents(config, base.inpainting) or need <= limit:
        return False
    sizes: dict[str, Any] = {"need": files.human_size(need), "limit": files.human_size(limit)}
    control.warn(Problem("training.latents_on_disk", "cache_latents_to_disk", count=pictures, folder=folder, **sizes))
    return True


def make_method(
    config: ResolvedConfig,
    base: Base,
    dataset: Dataset,
    run: Run,
    accelerator: Accelerator,
    resumed: training_state.Checkpoint | None,
    control: Control,
    captions: Sequence[str] = (),
) -> Method:
    """Set up the models on their device and the method that trains them, as of the training state to resume from, if
    any. captions: those that are measured, beside the data set's."""
    encoding = partial(control.stage, ENCODING)
    backbone = STARTS[config.method].assemble(config, base, dataset, accelerator.device, control.warn, encoding)
    backbone.remember(captions)
    process = NOISE_PROCESSES[base.family.noise](config, base.scheduler_config, config.prediction_type)
    objective = Objective(config, process)
    method = METHODS[config.method](config, objective, dataset.all_captions(), run.path / "frozen")
    weights = resumed.weights() if resumed else None
    method.prepare(backbone, accelerator, COMPUTED[config.mixed_precision], weights, resumed.step if resumed else 0)
    kernels.order_channels_last(method.backbone.unet, accelerator.device)
    return method


if __name__ == "__main__":
    open_missing_streams()
    shield()
    sys.exit(main())
