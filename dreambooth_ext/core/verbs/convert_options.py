"""Options of the command `convert`."""

from __future__ import annotations

import argparse

PRECISIONS = ("keep", "fp16", "bf16", "fp32")
SINGLE_FILES = (".safetensors", ".ckpt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("source", metavar="SRC", help="checkpoint file, diffusers folder or Hub name")
    option("target", metavar="DST", help="a file ending in .safetensors or .ckpt, or else a diffusers folder to create")
    option("--precision", choices=PRECISIONS, default="keep", help="of the written weights (default: keep)")
    option("--overwrite", action="store_true", help="replace DST if it already exists")
