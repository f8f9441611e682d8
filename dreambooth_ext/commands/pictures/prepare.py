"""`prepare`: look at the pictures before training, and write mended copies."""

from __future__ import annotations

import argparse

from ...core.verbs import prepare_options
from ...host.environment.environment import Environment

HELP = "look at the pictures: what is wrong with them, and what to do"
add_arguments = prepare_options.add_arguments


def run(arguments: argparse.Namespace) -> int:
    return Environment().run_inside(["-m", "dreambooth_ext.engine", "prepare", *arguments.given], replace=True)
