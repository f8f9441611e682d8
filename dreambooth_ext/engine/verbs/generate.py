"""The verb `generate`: draw pictures from a model file, with generation parameters that the WebUI can read."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ...core.config.names import is_pipeline
from ...core.errors import UserError
from ...core.system.files import sha256_of
from ...core.system.terminal import Progress
from ...core.verbs import generate_options
from ..conditioning.text_encoding import TextStack
from ..downloads.progress_thread import Fetch, TerminalStage
from ..models.base_download import download
from ..models.base_model import LatentBase, open_base
from ..models.ddpm_folder import Pipeline
from ..runtime.device import choose_device
from ..sampling.infotext import infotext, save_png
from ..sampling.painter import load_painter
from ..training import pixel_backbone


def run(arguments: argparse.Namespace) -> list[Path]:
    """Draw what the command line asks for (`generate_options.add_arguments`) and return the pictures' paths.

    Raises UserError if a value is out of range, the model cannot be opened, or the device does not exist.
    """
    for problem in generate_options.problems(arguments):
        raise problem.as_error()
    device = choose_device(arguments.device)
    fetch = Fetch(TerminalStage())
    if is_pipeline(path := download(arguments.model, "model", fetch)):
        return draw_without_prompt(arguments, Pipeline(path, "model"), device)
    base = open_base(path, field="model")
    if not arguments.prompt:
        raise UserError("command.no_prompt", "prompt")
    out = Path(arguments.out)
    loras = [generate_options.lora(text) for text in arguments.lora]
    embeddings = [Path(path) for path in arguments.embedding]
    hypernetworks = [generate_options.lora(text) for text in arguments.hypernetwork]
    painter = load_painter(base, device, arguments.clip_skip, loras, embeddings, hypernetworks)
    words = generate_options.lora_words(loras) + generate_options.lora_words(hypernetworks, "hypernet")
    digest = base.short_hash()
    seeds = [arguments.seed + index for index in range(arguments.num_images)]
    common = drawing_of(arguments, base)
    about = {"model": base.name, "model_hash": digest, "clip_skip": arguments.clip_skip}
    written: list[Path] = []
    with Progress(len(seeds) * len(arguments.prompt), "Drawing") as progress, counted(written, out):
        for index, prompt in enumerate(arguments.prompt):
            hashes = used_hashes(painter.text, [prompt, arguments.negative_prompt], embeddings)
            for batch in batches(seeds, arguments.batch_size):
                pictures = painter.paint(prompt, seeds=batch, **common)
                for seed, picture in zip(batch, pictures, strict=True):
                    path = out / f"{index}_{seed}.png"
                    said = prompt + words
                    shown = infotext(prompt=said, seed=seed, ti_hashes=hashes, **common, **about)
                    save_png(picture, path, shown)
                    written.append(path)
                    progress.update(len(written), path.name)
    return written


def drawing_of(arguments: argparse.Namespace, base: LatentBase) -> dict[str, Any]:
    """`Painter.paint`'s options, from those of `generate_options.add_drawing_arguments`."""
    return {
        "negative_prompt": arguments.negative_prompt,
        "width": arguments.width or base.resolution,
        "height": arguments.height or base.resolution,
        "steps": arguments.steps or generate_options.USUAL_STEPS,
        "sampler": arguments.sampler,
        "cfg_scale": arguments.cfg_scale,
    }


def draw_without_prompt(arguments: argparse.Namespace, pipeline: Pipeline, device: torch.device) -> list[Path]:
    """Draw pictures of an unconditional model, as diffusers' DDPMPipeline draws them from the same seeds."""
    for problem in generate_options.worded_problems(arguments):
        raise problem.as_error()
    scheduler, unet = pipeline.scheduler(), pipeline.unet().to(device)
    size, most = pipeline.size, len(scheduler)
    steps = arguments.steps or most
    if steps > most:
        raise UserError("method.drawing_steps", "steps", steps=steps, most=most)
    common: dict[str, Any] = {"prompt": "", "negative_prompt": "", "steps": steps, "sampler": "DDPM", "cfg_scale": None}
    common |= {"width": size, "height": size, "model": pipeline.path.name, "model_hash": None, "clip_skip": None}
    seeds = [arguments.seed + index for index in range(arguments.num_images)]
    written: list[Path] = []
    out = Path(arguments.out)
    with Progress(len(seeds) * steps, "Drawing") as progress, counted(written, out):
        for batch in batches(seeds, arguments.batch_size):
            told = advancing(progress, len(written) * steps, 1)
            for seed, picture in zip(
                batch, pixel_backbone.sample_pixels(unet, scheduler, batch, size, steps, told), strict=True
            ):
                path = out / f"0_{seed}.png"
                save_png(picture, path, infotext(seed=seed, **common))
                written.append(path)
    return written


@contextlib.contextmanager
def counted(written: Sequence[Path], out: Path) -> Iterator[None]:
    """On Ctrl-C, put the number of pictures drawn so far into the KeyboardInterrupt."""
    try:
        yield
    except KeyboardInterrupt:
        if not written:
            raise
        are = "1 picture is" if len(written) == 1 else f"{len(written)} pictures are"
        raise KeyboardInterrupt(f"{are} in {out}") from None


def advancing(progress: Progress, before: int, pictures: int) -> Callable[[int, int], None]:
    """Return a progress callback for a batch, in which each step counts for all of its pictures."""
    return lambda done, of: progress.update(before + done * pictures)


def used_hashes(text: TextStack, prompts: Sequence[str], paths: Sequence[Path]) -> dict[str, str]:
    """Return the embeddings used in these prompts, with their files' hashes as the WebUI shows them."""
    files = dict(zip((id(word) for word in text.embeddings.words), paths, strict=False))  # bundled words come last
    used = {id(word): word for prompt in prompts for word in text.learned_in(prompt)}
    return {word.word: sha256_of(files[key])[:12] for key, word in used.items() if key in files}


def batches(seeds: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(seeds), size):
        yield seeds[start : start + size]
