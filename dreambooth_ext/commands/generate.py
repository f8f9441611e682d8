"""`generate`: pictures from a model."""

from __future__ import annotations

import argparse

from .. import generation, links
from ..host.environment import Environment

HELP = "draw pictures with a model"
add_arguments = generation.add_arguments


def run(arguments: argparse.Namespace) -> int:
    words, variables = links.handed(arguments.given)
    return Environment().run_inside(["-m", "dreambooth_ext.engine", "generate", *words], variables, replace=True)
