"""Options of the command `network`, and their checks."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import Problem
from . import generate_options
from .convert_options import SINGLE_FILES

# action -> options that it needs, and those that it may have beside --model, --out, --precision, --device, --overwrite
ACTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "merge": (("lora",), ()),
    "extract": (("tuned", "rank"), ("conv_rank",)),
    "resize": (("lora", "rank"), ("conv_rank",)),
}
LARGEST_RANK = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option(
        "action",
        choices=ACTIONS,
        help="merge: LoRA files into a checkpoint; extract: what a model has learned beyond its base, as a LoRA; "
        "resize: any LoRA file to another rank, as a plain LoRA",
    )
    option("--model", required=True, help="the base: checkpoint file, diffusers folder or Hub name")
    option("--lora", action="append", default=[], metavar="FILE[:w]", help="LoRA file; for merge, also with a weight")
    option("--tuned", help="the model that was trained from the base")
    option("--rank", type=int, metavar="N", help="rank of the new LoRA; for resize, also of 3x3 convolutions")
    option("--conv-rank", type=int, metavar="N", help="rank of 3x3 convolutions; without it, extract leaves them out")
    option("--precision", choices=("fp16", "bf16", "fp32"), default="fp16", help="of the written file (default: fp16)")
    option("--device", default="auto", help="auto, cuda, cuda:1, mps or cpu (default: auto)")
    option("--out", required=True, metavar="FILE", help="file to write: .safetensors, or .ckpt for merge")
    option("--overwrite", action="store_true", help="replace FILE if it already exists")


def problems(arguments: argparse.Namespace) -> list[Problem]:
    """Problems for options that are missing, unused or out of range."""
    found, action = [], arguments.action
    needed, possible = ACTIONS[action]
    for name in ("lora", "tuned", "rank", "conv_rank"):
        option, value = f"--{name.replace('_', '-')}", getattr(arguments, name)
        if name in needed and not value:
            found.append(Problem("command.option_needed", name, action=action, option=option))
        elif value and name not in (*needed, *possible):
            found.append(Problem("command.option_unused", name, action=action, option=option))
    for name in ("rank", "conv_rank"):
        value = getattr(arguments, name)
        if value is not None and not 1 <= value <= LARGEST_RANK:
            found.append(Problem("settings.out_of_range", name, value=value, low=1, high=LARGEST_RANK))
    if action == "resize" and len(arguments.lora) > 1:
        found.append(Problem("command.one_lora", "lora"))
    found += generate_options.lora_problems(arguments.lora)
    out = Path(arguments.out)
    suffixes = SINGLE_FILES if action == "merge" else SINGLE_FILES[:1]
    if out.suffix.lower() not in suffixes:
        found.append(Problem("command.ending", "out", name=out.name, endings=list(suffixes)))
    elif out.exists() and not arguments.overwrite:
        found.append(Problem("command.exists", "out", path=str(out)))
    return found
