"""`generate`: draw pictures with a model."""

from __future__ import annotations

import argparse

from ...core.config import links
from ...core.verbs import generate_options
from ...host.environment.environment import Environment

HELP = "draw pictures with a model"
add_arguments = generate_options.add_arguments


def run(arguments: argparse.Namespace) -> int:
    words, variables = links.handed(arguments.given)
    return Environment().run_inside(["-m", "dreambooth_ext.engine", "generate", *words], variables, replace=True)
