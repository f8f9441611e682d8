"""Class pictures for prior preservation: the base draws those that are missing, into a folder that later runs reuse."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import torch
from PIL.PngImagePlugin import PngInfo

from .. import files
from ..config import RunConfig
from ..pictures import Concept, concepts, list_pictures, uses_prior
from .base import Base
from .sampling import Painter
from .seeds import derive
from .text import TextStack

Progress = Callable[[int, int], None]


def with_folders(config: RunConfig, base: Base, folder: Path) -> RunConfig:
    """The config with a class folder for every class prompt that names none: below `folder`, by base and prompt."""
    if not uses_prior(config):
        return config

    def place(prompt: str) -> str:
        words = re.sub(r"[^A-Za-z0-9]+", "_", prompt).strip("_")[:40]
        key = hashlib.sha256(f"{base.name}/{prompt}/{config.resolution}".encode()).hexdigest()[:8]
        return str(folder / f"{words}-{config.resolution}-{key}")

    if not config.concepts:
        return config.replace(class_data_dir=config.class_data_dir or place(config.class_prompt))
    filled = []
    for given, concept in zip(config.concepts, concepts(config), strict=True):
        needs = concept.class_prompt and not concept.class_data_dir
        filled.append({**given, "class_data_dir": place(concept.class_prompt)} if needs else given)
    return config.replace(concepts=filled)


def missing(config: RunConfig) -> dict[Path, tuple[Concept, int]]:
    """Class folders that have fewer pictures than asked for, with how many they lack."""
    lacking: dict[Path, tuple[Concept, int]] = {}
    for concept in concepts(config) if uses_prior(config) else []:
        if not concept.class_data_dir:
            continue
        folder = Path(concept.class_data_dir).expanduser()
        lacks = concept.num_class_images - (len(list_pictures(folder)) if folder.is_dir() else 0)
        if lacks > lacking.get(folder, (concept, 0))[1]:
            lacking[folder] = (concept, lacks)
    return lacking


def draw_missing(config: RunConfig, base: Base, device: torch.device, progress: Progress) -> None:
    """Draw what is missing. Every picture is saved as it is made, so an interrupted run goes on where it was."""
    lacking = missing(config)
    if not lacking:
        return
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    text = TextStack(base.tokenizers(), base.text_encoders(dtype), clip_skip=config.clip_skip).to(device)
    # SDXL's VAE overflows in float16
    painter = Painter(base.unet(dtype).to(device), base.vae(torch.float32).to(device), text, base.scheduler_config)
    total, done = sum(lacks for _, lacks in lacking.values()), 0
    for folder, (concept, lacks) in lacking.items():
        folder.mkdir(parents=True, exist_ok=True)
        files.remove_unfinished(folder)
        for index in _free_numbers(folder, lacks):
            _draw_one(painter, config, concept.class_prompt, folder / f"class-{index:05}.png", index)
            done += 1
            progress(done, total)


def _draw_one(painter: Painter, config: RunConfig, prompt: str, path: Path, index: int) -> None:
    (picture,) = painter.paint(
        prompt,
        seeds=[derive(config.seed, "class picture", prompt, index) % 2**32],
        width=config.resolution,
        height=config.resolution,
        steps=config.validation_inference_steps,
        cfg_scale=config.validation_guidance_scale,
        sampler=config.validation_sampler,
    )
    about = PngInfo()
    about.add_text("parameters", prompt)
    with files.replacing(path) as temporary:
        picture.save(temporary, pnginfo=about)


def _free_numbers(folder: Path, count: int) -> list[int]:
    free, number = [], 0
    while len(free) < count:
        if not (folder / f"class-{number:05}.png").exists():
            free.append(number)
        number += 1
    return free
