"""The verb `network`: its options, and what can be wrong with them."""

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
        help="merge: LoRA files into a checkpoint; extract: a LoRA from what a trained model is beyond its base; "
        "resize: any LoRA file to one of another rank, of the type lora",
    )
    option("--model", required=True, help="the base: checkpoint file, diffusers folder or Hub name")
    option("--lora", action="append", default=[], metavar="FILE[:w]", help="LoRA file, when merging also at a weight")
    option("--tuned", help="the model that was trained from the base")
    option("--rank", type=int, metavar="N", help="of the new LoRA; for 3x3 convolutions, too, when resizing")
    option("--conv-rank", type=int, metavar="N", help="of 3x3 convolutions; without it, extracting leaves them out")
    option("--precision", choices=("fp16", "bf16", "fp32"), default="fp16", help="of the written file (default: fp16)")
    option("--device", default="auto", help="auto, cuda, cuda:1, mps or cpu (default: auto)")
    option("--out", required=True, metavar="FILE", help="the file to write; .safetensors, or .ckpt when merging")
    option("--overwrite", action="store_true", help="replace FILE if it is already there")


def problems(arguments: argparse.Namespace) -> list[Problem]:
    """Options that are missing, have no use, or are out of range."""
    found, action = [], arguments.action
    needed, possible = ACTIONS[action]
    for name in ("lora", "tuned", "rank", "conv_rank"):
        option, value = f"--{name.replace('_', '-')}", getattr(arguments, name)
        if name in needed and not value:
            found.append(Problem(name, f"{action} needs it.", f"Add {option}."))
        elif value and name not in (*needed, *possible):
            found.append(Problem(name, f"{action} does not use it.", f"Leave {option} out."))
    for name in ("rank", "conv_rank"):
        if getattr(arguments, name) is not None and not 1 <= getattr(arguments, name) <= LARGEST_RANK:
            found.append(Problem(name, "is out of range.", f"Use 1 to {LARGEST_RANK}."))
    if action == "resize" and len(arguments.lora) > 1:
        found.append(Problem("lora", "one file is resized at a time.", "Give --lora once."))
    found += generate_options.lora_problems(arguments.lora)
    out = Path(arguments.out)
    suffixes = SINGLE_FILES if action == "merge" else SINGLE_FILES[:1]
    if out.suffix.lower() not in suffixes:
        found.append(Problem("out", f"{out.name} does not end in {' or '.join(suffixes)}.", "Choose another name."))
    elif out.exists() and not arguments.overwrite:
        found.append(Problem("out", f"{out} is already there.", "Choose another name, or add --overwrite."))
    return found
