"""Options of the engine's verb `tagger`, which asks Hugging Face what fetching a tagger would bring."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", metavar="NAME")
    parser.add_argument("files", nargs="+", metavar="FILE")
