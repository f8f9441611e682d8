"""The verb `generate`: its options, and what can be wrong with them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from ..config.form_sections.previews import SAMPLERS
from ..config.run_config import SETTINGS
from ..errors import Problem

RANGES = {
    "num_images": (1, 10_000),
    "seed": (0, 2**32 - 1),
    "steps": (1, 1000),
    "cfg_scale": (1, 50),
    "width": (64, 4096),
    "height": (64, 4096),
    "batch_size": (1, 64),
    "clip_skip": (1, 12),
}
USUAL_STEPS = SETTINGS["validation_inference_steps"].default
SIZE_STEP = 8  # pixels a latent pixel
HEAVIEST = 10  # weight of a LoRA
WORDED = ("prompt", "lora", "negative_prompt", "cfg_scale", "sampler", "width", "height", "clip_skip")  # not theirs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    scale = SETTINGS["validation_guidance_scale"].default
    sampler = SETTINGS["validation_sampler"].default
    option = parser.add_argument
    option("--model", required=True, help="checkpoint file (.safetensors, .ckpt), diffusers folder or Hub name")
    option(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:w]",
        help="draw with a LoRA file, at weight w (default: 1); give it again for further ones",
    )
    option(
        "--embedding",
        action="append",
        default=[],
        metavar="FILE",
        help="know the word that this file (textual inversion) is named after; give it again for further ones",
    )
    option(
        "--hypernetwork",
        action="append",
        default=[],
        metavar="FILE[:w]",
        help="draw with a hypernetwork's file, at strength w (default: 1); give it again for further ones",
    )
    option(
        "--prompt",
        action="append",
        default=[],
        help="what to draw; give it again for further prompts. Unconditional models take none",
    )
    option("--negative-prompt", default="", help="what not to draw")
    option("--num-images", type=int, default=1, metavar="N", help="pictures a prompt (default: 1)")
    option("--seed", type=int, default=0, help="first picture's seed, the next ones count up (default: 0)")
    steps = f"sampling steps (default: {USUAL_STEPS}; of an unconditional model as many as its noise has)"
    option("--steps", type=int, help=steps)
    option("--cfg-scale", type=float, default=scale, help=f"how closely to follow the prompt (default: {scale})")
    option("--sampler", choices=SAMPLERS, default=sampler, help=f"default: {sampler}")
    option("--width", type=int, metavar="PIXELS", help="default: the size the model was made for")
    option("--height", type=int, metavar="PIXELS", help="default: the size the model was made for")
    option("--batch-size", type=int, default=1, metavar="N", help="pictures drawn at once (default: 1)")
    option("--clip-skip", type=int, help="take the text encoder's last layer but so many, as in the WebUI")
    option("--device", default="auto", help="auto, cuda, cuda:1, mps or cpu (default: auto)")
    option("--out", required=True, metavar="DIR", help="folder for the pictures, <prompt index>_<seed>.png")


def worded_problems(arguments: argparse.Namespace) -> list[Problem]:
    """Options that mean nothing to an unconditional model."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = [name for name in WORDED if getattr(arguments, name) != parser.get_default(name)]
    return [Problem(name, "an unconditional model draws without it.", "Leave it out.") for name in given]


def lora(text: str) -> tuple[Path, float]:
    """The file and weight of one `--lora` or `--hypernetwork`: what follows the last colon, if it is a number."""
    path, colon, tail = text.rpartition(":")
    try:
        weight = float(tail) if colon else 1.0
    except ValueError:  # C:\\loras\\mine.safetensors
        return Path(text), 1.0
    return Path(path if colon else text), weight


def lora_problems(given: Iterable[str], field: str = "lora") -> list[Problem]:
    """What is wrong with `--lora`s, or with `--hypernetwork`s."""
    found, kind = [], {"lora": "LoRA", "hypernetwork": "hypernetwork"}[field]
    for path, weight in map(lora, given):
        if not path.is_file():
            found.append(Problem(field, f"There is no file {path}.", f"Give a {kind} file, or FILE:0.8."))
        if not abs(weight) <= HEAVIEST:
            found.append(Problem(field, f"A weight of {weight} is out of range.", "Usual are 0.5 to 1."))
    return found


def lora_words(loras: Iterable[tuple[Path, float]], kind: str = "lora") -> str:
    """What the WebUI reads at a prompt's end to draw with these. kind: "lora" or "hypernet"."""
    return "".join(f" <{kind}:{path.stem}:{weight:g}>" for path, weight in loras)


def problems(arguments: argparse.Namespace) -> list[Problem]:
    """Every value that is out of range, by its option."""
    found = []
    for name, (low, high) in RANGES.items():
        value = getattr(arguments, name)
        if value is not None and not low <= value <= high:
            found.append(Problem(name, f"{value} is not between {low} and {high}.", "Choose a value in that range."))
    for name in ("width", "height"):
        value = getattr(arguments, name)
        if value is not None and value % SIZE_STEP:
            remedy = f"Try {round(value / 64) * 64 or 64}."
            found.append(Problem(name, f"{value} pixels is not a multiple of {SIZE_STEP}.", remedy))
    found += lora_problems(arguments.lora)
    missing = [path for path in arguments.embedding if not Path(path).is_file()]
    found += [Problem("embedding", f"There is no file {path}.", "Give an embedding's file.") for path in missing]
    found += lora_problems(arguments.hypernetwork, "hypernetwork")
    if arguments.seed + arguments.num_images - 1 > RANGES["seed"][1] >= arguments.seed:
        found.append(Problem("seed", "The last picture's seed is beyond 4294967295.", "Choose a lower seed."))
    return found
