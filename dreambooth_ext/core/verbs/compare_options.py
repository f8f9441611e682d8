"""The verb `compare`: its options, and what can be wrong with them."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import Problem
from ..guide import tables
from . import generate_options

BASE = "base"  # names the base model in pictures and compare.json
UNUSUAL = re.compile(r'[<>:"/\\|?*\x00-\x1f]')  # what no file name may hold on Windows


@dataclass(frozen=True)
class Given:
    """One `--model`. name: unique, part of its pictures' names. weight: None where none was given."""

    name: str
    path: Path
    weight: float | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("--base", required=True, help="checkpoint file (.safetensors, .ckpt), diffusers folder or Hub name")
    option(
        "--model",
        action="append",
        required=True,
        metavar="FILE[:w]",
        help="what to compare with the base: a checkpoint, LoRA, embedding or hypernetwork; LoRAs and hypernetworks "
        "at weight w (default: 1); repeat it for further models or weights",
    )
    option("--prompt", action="append", default=[], help="what to draw; repeat it for further prompts")
    option("--subject-type", choices=sorted(tables.TEST_PROMPTS), help="draw the guide's prompts for this subject")
    option("--word", help="the subject's word in the guide's prompts")
    generate_options.add_drawing_arguments(parser)
    option("--overwrite", action="store_true", help="replace the pictures of an earlier comparison in the folder")
    option("--out", required=True, metavar="DIR", help="folder for the pictures, sheet.png and compare.json")


def problems(arguments: argparse.Namespace) -> list[Problem]:
    """Every value that is out of range or missing, by its option."""
    found = generate_options.drawing_problems(arguments)
    for model in models(arguments):
        if not model.path.exists():
            found.append(Problem("command.model_missing", "model", path=str(model.path)))
        if model.weight is not None and not abs(model.weight) <= generate_options.HEAVIEST:
            found.append(Problem("command.weight", "model", weight=model.weight))
    if bool(arguments.subject_type) != bool(arguments.word):
        given, lacking = ("subject-type", "word") if arguments.subject_type else ("word", "subject-type")
        found.append(Problem("command.word_and_subject", lacking.replace("-", "_"), given=f"--{given}"))
    elif not arguments.prompt and not arguments.subject_type:
        found.append(Problem("command.nothing_to_compare", "prompt"))
    return found


def prompts(arguments: argparse.Namespace) -> list[str]:
    """The guide's prompts where they were asked for, then those of `--prompt`, each once."""
    guide = tables.test_prompts(arguments.subject_type, arguments.word) if arguments.subject_type else []
    return list(dict.fromkeys([*guide, *arguments.prompt]))


def models(arguments: argparse.Namespace) -> list[Given]:
    """Every `--model` with a name of its own: the file's, its weight where one was given, and a number if need be."""
    found: list[Given] = []
    taken = {BASE}
    for text in arguments.model:
        path, weight = generate_options.lora(text)
        given = None if path == Path(text) else weight
        stem = path.name if path.is_dir() else path.stem
        name = UNUSUAL.sub("_", stem if given is None else f"{stem}-{given:g}")
        number = 2
        unique = name
        while unique.lower() in taken:
            unique, number = f"{name}_{number}", number + 1
        taken.add(unique.lower())
        found.append(Given(unique, path, given))
    return found
