"""Options of the command `generate`, and their checks."""

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
SIZE_STEP = 8  # pixels for each pixel of the latents
HEAVIEST = 10  # weight of a LoRA
WORDED = ("prompt", "lora", "negative_prompt", "cfg_scale", "sampler", "width", "height", "clip_skip")  # not theirs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("--model", required=True, help="checkpoint file (.safetensors, .ckpt), diffusers folder or Hub name")
    option(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:w]",
        help="draw with a LoRA file, at weight w (default: 1); repeat it for further files",
    )
    option(
        "--embedding",
        action="append",
        default=[],
        metavar="FILE",
        help="know the word of this embedding file, which is the file's name; repeat it for further files",
    )
    option(
        "--hypernetwork",
        action="append",
        default=[],
        metavar="FILE[:w]",
        help="draw with a hypernetwork file, at strength w (default: 1); repeat it for further files",
    )
    option(
        "--prompt",
        action="append",
        default=[],
        help="what to draw; repeat it for further prompts. Unconditional models take none",
    )
    add_drawing_arguments(parser)
    option("--out", required=True, metavar="DIR", help="folder for the pictures, <prompt index>_<seed>.png")


def add_drawing_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every verb that draws: how many pictures of a prompt, and how each is made."""
    scale = SETTINGS["validation_guidance_scale"].default
    sampler = SETTINGS["validation_sampler"].default
    option = parser.add_argument
    option("--negative-prompt", default="", help="what not to draw")
    option("--num-images", type=int, default=1, metavar="N", help="pictures for each prompt (default: 1)")
    option(
        "--seed",
        type=int,
        default=0,
        help="seed of the first picture, 1 more for each further one (default: 0)",
    )
    steps = f"sampling steps (default: {USUAL_STEPS}; for an unconditional model, all of its noise schedule)"
    option("--steps", type=int, help=steps)
    option("--cfg-scale", type=float, default=scale, help=f"how closely to follow the prompt (default: {scale})")
    option("--sampler", choices=SAMPLERS, default=sampler, help=f"default: {sampler}")
    option("--width", type=int, metavar="PIXELS", help="default: the size that the model was made for")
    option("--height", type=int, metavar="PIXELS", help="default: the size that the model was made for")
    option("--batch-size", type=int, default=1, metavar="N", help="pictures drawn at once (default: 1)")
    option("--clip-skip", type=int, help="layer of the text encoder to use, counted from the last, as in the WebUI")
    option("--device", default="auto", help="auto, cuda, cuda:1, mps or cpu (default: auto)")


def worded_problems(arguments: argparse.Namespace) -> list[Problem]:
    """Problems for options that have no effect with an unconditional model."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = [name for name in WORDED if getattr(arguments, name) != parser.get_default(name)]
    return [Problem("command.unused_without_prompt", name) for name in given]


def lora(text: str) -> tuple[Path, float]:
    """The file and weight of one `--lora` or `--hypernetwork`: the weight follows the last colon, if it is a number."""
    path, colon, tail = text.rpartition(":")
    try:
        weight = float(tail) if colon else 1.0
    except ValueError:  # C:\\loras\\mine.safetensors
        return Path(text), 1.0
    return Path(path if colon else text), weight


def lora_problems(given: Iterable[str], field: str = "lora") -> list[Problem]:
    """Problems with the files and weights of `--lora` or `--hypernetwork`."""
    found, missing = [], {"lora": "command.lora_missing", "hypernetwork": "command.hypernetwork_missing"}[field]
    for path, weight in map(lora, given):
        if not path.is_file():
            found.append(Problem(missing, field, path=str(path)))
        if not abs(weight) <= HEAVIEST:
            found.append(Problem("command.weight", field, weight=weight))
    return found


def lora_words(loras: Iterable[tuple[Path, float]], kind: str = "lora") -> str:
    """The tags at a prompt's end by which the WebUI draws with these files. kind: "lora" or "hypernet"."""
    return "".join(f" <{kind}:{path.stem}:{weight:g}>" for path, weight in loras)


def problems(arguments: argparse.Namespace) -> list[Problem]:
    """One problem for each option with a wrong value."""
    found = drawing_problems(arguments)
    found += lora_problems(arguments.lora)
    missing = [path for path in arguments.embedding if not Path(path).is_file()]
    found += [Problem("command.embedding_missing", "embedding", path=path) for path in missing]
    found += lora_problems(arguments.hypernetwork, "hypernetwork")
    return found


def drawing_problems(arguments: argparse.Namespace) -> list[Problem]:
    """Values of `add_drawing_arguments` that are out of range."""
    found = []
    for name, (low, high) in RANGES.items():
        value = getattr(arguments, name)
        if value is not None and not low <= value <= high:
            found.append(Problem("settings.out_of_range", name, value=value, low=low, high=high))
    for name in ("width", "height"):
        value = getattr(arguments, name)
        if value is not None and value % SIZE_STEP:
            near = round(value / 64) * 64 or 64
            found.append(Problem("settings.not_multiple", name, value=value, step=SIZE_STEP, near=near))
    _, most = RANGES["seed"]
    if arguments.seed + arguments.num_images - 1 > most >= arguments.seed:
        found.append(Problem("command.last_seed", "seed", most=most))
    return found
