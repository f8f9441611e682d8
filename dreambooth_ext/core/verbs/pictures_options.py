"""`pictures`: the picture worker (`engine/pictures/worker.py`), a verb that programs use; it has no options."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add none: questions come on standard input."""
