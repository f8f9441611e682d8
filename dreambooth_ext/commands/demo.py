"""`demo`: the whole way in a few minutes, on a small base and a dozen pictures that come with the program."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "train a new subject on the bundled base, and draw it before and after"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("outputs", "demo"), help="default: outputs/demo"
    )


def run(arguments: argparse.Namespace) -> int:
    raise AssertionError("to come")
