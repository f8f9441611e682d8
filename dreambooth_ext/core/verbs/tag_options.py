"""Options of the verb `tag`: a tagger looks at a folder's pictures and proposes captions."""

from __future__ import annotations

import argparse
import math

from ..errors import Problem
from .path_option import path

THRESHOLD, CHARACTER_THRESHOLD = 0.35, 0.85  # kohya's and the taggers' own
NUMBERS = ("threshold", "character_threshold")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=path, metavar="FOLDER", help="the pictures")
    parser.add_argument("--out", type=path, required=True, metavar="FILE", help="where the proposals go, as JSON")
    add_tagger_arguments(parser, required=True)


def add_tagger_arguments(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Those that the command `captions` has, too."""
    option = parser.add_argument
    option("--tagger", type=path, required=required, metavar="DIR",
           help="a folder with a tagger: model.onnx and selected_tags.csv (WD14), or a captioner of transformers "
                "(BLIP, GIT, vit-gpt2) in safetensors")  # fmt: skip
    option("--threshold", type=float, default=THRESHOLD, metavar="P",
           help=f"the least probability of a tag (default: {THRESHOLD})")  # fmt: skip
    option("--character-threshold", type=float, default=CHARACTER_THRESHOLD, metavar="P",
           help=f"the same of a character's name (default: {CHARACTER_THRESHOLD})")  # fmt: skip
    option("--ratings", action="store_true", help="add the rating, such as 'general', too")
    option("--no-characters", action="store_true", help="leave characters' names out")
    option("--underscores", action="store_true", help="keep underscores in tags instead of spaces")
    option("--leave-out", action="append", default=[], metavar="TAG", help="a tag that is not proposed; several times")
    option("--begin", default="", metavar="TEXT", help="how a captioner's sentences begin")
    option("--only-empty", action="store_true", help="only pictures without a caption")
    option("--device", default="auto", help="auto, cuda, cuda:1, mps or cpu (default: auto)")


def problems(arguments: argparse.Namespace) -> list[Problem]:
    found = []
    for name in NUMBERS:
        value = getattr(arguments, name)
        if not (math.isfinite(value) and 0 <= value <= 1):
            found.append(Problem("tagging.out_of_range", name.replace("_", "-"), value=value))
    return found
