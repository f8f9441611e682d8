"""`compare`: the same prompts and seeds drawn by the base and by each model, beside each other."""

from __future__ import annotations

import argparse

from ...core.config import links
from ...core.verbs import compare_options
from ...host.environment.environment import Environment

HELP = "draw the same prompts with the base and with models, side by side"
add_arguments = compare_options.add_arguments


def run(arguments: argparse.Namespace) -> int:
    words, variables = links.handed(arguments.given)
    return Environment().run_inside(["-m", "dreambooth_ext.engine", "compare", *words], variables, replace=True)
