"""Class pictures for prior preservation: the base draws the missing ones into folders that later runs reuse."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from ...core.config.stages import ResolvedConfig
from ...core.data.concepts import Subjects
from ...core.data.folder_scan import list_pictures
from ...core.data.picture_entries import class_prompts, entries
from ...core.errors import Problem, UserError
from ...core.system import files
from ..conditioning.text_encoding import TextStack
from ..models.base import Base
from ..models.base_model import LatentBase
from ..quantisation.precision import of_reading
from ..runtime import memory, vae_bands
from ..runtime.seeds import derive
from .infotext import save_png
from .painter import KnownPrompts, Painter, dtype_on

# So that the UNet needs less memory than the VAE, which decodes one by one; a quarter where the VAE decodes in bands
PIXELS_AT_ONCE = {"cuda": 4 * 512 * 512}
Progress = Callable[[int, int], None]
SHOWN = 60.0  # seconds after which a network folder shows what another machine has written


def with_folders(
    config: ResolvedConfig,
    subjects: Subjects,
    base: Base,
    folder: Path,
    warn: Callable[[Problem], None] = lambda problem: None,
    is_old: bool = False,
) -> ResolvedConfig:
    """Return the config with a class folder for every class prompt without one. Folders are made below `folder`, and
    named after everything that determines their pictures.

    is_old: the run was started by a version that named folders after the base's name only, and keeps those pictures.
    """
    if not subjects.uses_prior(config) or subjects.data_set:  # a data set of kohya's brings its own
        return config

    def place(prompt: str) -> str:
        words = re.sub(r"[^A-Za-z0-9]+", "_", prompt).strip("_")[:40]
        new, old = (
            folder / f"{words}-{config.resolution}-{hashlib.sha256(key.encode()).hexdigest()[:length]}"
            for key, length in ((drawn_by(config, base, prompt), 12), (f"{base.name}/{prompt}/{config.resolution}", 8))
        )
        if old.is_dir() and not is_old:
            warn(Problem("training.class_pictures_not_used", "class_data_dir", folder=old))
        return str(old if old.is_dir() and is_old else new)

    if not config.concepts:
        return config.replace(class_data_dir=config.class_data_dir or place(config.class_prompt or ""))
    filled = []
    for given, concept in zip(config.concepts, subjects.concepts, strict=True):
        prompt = "" if concept.class_data_dir else concept.class_prompt
        filled.append({**given, "class_data_dir": place(prompt)} if prompt else given)
    return config.replace(concepts=filled)


def drawn_by(config: ResolvedConfig, base: Base, prompt: str) -> str:
    """Return everything that determines a class picture of this prompt, except its number (see `draw_some`), as
    JSON."""
    drawing = ("validation_inference_steps", "validation_guidance_scale", "validation_sampler")
    values = [getattr(config, name) for name in ("resolution", "clip_skip", "seed", *drawing)]
    return json.dumps([base.files.digest, base.prediction_type, prompt, *values])


def missing(config: ResolvedConfig, subjects: Subjects) -> dict[Path, tuple[int, int]]:
    """Return the class folders with too few pictures, each with the index of the concept that asks for most and how
    many are missing."""
    lacking: dict[Path, tuple[int, int]] = {}
    for index, concept in enumerate(subjects.concepts if subjects.uses_prior(config) else []):
        if not concept.class_data_dir or concept.subset:
            continue
        folder = files.expanded(concept.class_data_dir)
        without = (files.expanded(concept.instance_data_dir),)  # as `picture_entries.entries` counts them
        lacks = concept.num_class_images - (len(list_pictures(folder, without)) if folder.is_dir() else 0)
        if lacks > lacking.get(folder, (index, 0))[1]:
            lacking[folder] = (index, lacks)
    return lacking


def require_drawn(config: ResolvedConfig, subjects: Subjects) -> None:
    """Raise UserError if class pictures are missing that the first process has drawn: only it draws, and a network
    folder may show them late."""
    deadline = time.monotonic() + SHOWN
    while lacking := missing(config, subjects):
        if time.monotonic() > deadline:
            raise UserError("machines.no_class_pictures", "class_data_dir", folder=next(iter(lacking)))
        time.sleep(0.5)


def draw_missing(
    config: ResolvedConfig, subjects: Subjects, base: LatentBase, device: torch.device, progress: Progress
) -> None:
    """Draw the missing class pictures, in batches on a GPU and one by one on a CPU. Each batch is saved at once, so
    that an interrupted run continues where it stopped."""
    lacking = missing(config, subjects)
    if not lacking:
        return
    own_pictures, _ = entries(config, subjects)
    work: list[tuple[Path, tuple[str, str], list[int]]] = []
    for folder, (concept, lacks) in lacking.items():
        folder.mkdir(parents=True, exist_ok=True)
        files.remove_unfinished(folder)
        prompts = list(class_prompts(config, subjects, own_pictures, concept).items())
        work += [(folder, prompt, numbers) for prompt, numbers in by_prompt(free_numbers(folder, lacks), prompts)]
    painter = load(config, base, device, {prompt for _, (prompt, _), _ in work})
    total, done = sum(lacks for _, lacks in lacking.values()), 0
    at_once = max(1, PIXELS_AT_ONCE.get(device.type, 0) // (4 if painter.takes_turns else 1) // config.resolution**2)
    for folder, (prompt, filewords), numbers in work:
        drawing = functools.partial(draw_some, painter, config, prompt, filewords, folder)
        for count in memory.in_batches(drawing, numbers, at_once):
            done += count
            progress(done, total)


def load(config: ResolvedConfig, base: LatentBase, device: torch.device, prompts: Iterable[str]) -> Painter:
    """Load a base to draw these prompts: the text encoders leave memory before the UNet comes, and where memory is
    short (`vae_tiling`) UNet and VAE take turns in it."""
    text = KnownPrompts(load_text(config, base, device), sorted(prompts), dtype_on(device))
    memory.release()
    vae = vae_bands.for_drawing(base.vae(), config).to(device)
    unet = base.unet(dtype_on(device)).to(device)
    return Painter(unet, vae, text, base.scheduler_config, config.vae_tiling == vae_bands.ON)


def load_text(config: ResolvedConfig, base: LatentBase, device: torch.device) -> TextStack:
    """Load the text encoders, whose weights are held in 16 bits where the UNet draws in them."""
    dtype = dtype_on(device)
    encoders = base.text_encoders(dtype if dtype == torch.float32 else of_reading(device))
    return TextStack(base.tokenizers(), encoders, base.family.text, clip_skip=config.clip_skip).to(device)


def by_prompt(numbers: list[int], prompts: list[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], list[int]]]:
    """Yield each prompt with the consecutive numbers it is used for. The prompts take turns by number."""
    for index, row in itertools.groupby(numbers, lambda number: number % len(prompts)):
        yield prompts[index], list(row)


def draw_some(
    painter: Painter, config: ResolvedConfig, prompt: str, filewords: str, folder: Path, numbers: list[int]
) -> int:
    """Draw class pictures of one prompt and save them with their captions; return how many. Each picture's seed depends
    on the run's seed, the prompt and the picture's number."""
    pictures = painter.paint(
        prompt,
        seeds=[derive(config.seed, "class picture", prompt, number) % 2**32 for number in numbers],
        width=config.resolution,
        height=config.resolution,
        steps=config.validation_inference_steps,
        cfg_scale=config.validation_guidance_scale,
        sampler=config.validation_sampler,
        emphasis=False,  # it is trained with these very words
    )
    for number, picture in zip(numbers, pictures, strict=True):
        path = folder / f"class-{number:05}.png"
        if filewords:
            files.write_text(path.with_suffix(config.caption_extension), filewords)
        save_png(picture, path, prompt)
    return len(numbers)


def free_numbers(folder: Path, count: int) -> list[int]:
    """Return the `count` lowest numbers not used by a class picture in the folder."""
    free: list[int] = []
    number = 0
    while len(free) < count:
        if not (folder / f"class-{number:05}.png").exists():
            free.append(number)
        number += 1
    return free
