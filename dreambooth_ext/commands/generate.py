"""`generate`: pictures from a model."""

from __future__ import annotations

import argparse

from .. import generation
from ..host.environment import Environment

HELP = "draw pictures with a model"
add_arguments = generation.add_arguments


def run(arguments: argparse.Namespace) -> int:
    return Environment().run_inside(["-m", "dreambooth_ext.engine", "generate", *arguments.given], replace=True)
