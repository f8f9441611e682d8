"""`network`: LoRA files into models, out of models, and of other ranks."""

from __future__ import annotations

import argparse

from .. import networks
from ..host.environment import Environment

HELP = "merge LoRA files into a model, extract one from two models, or give one another rank"
add_arguments = networks.add_arguments


def run(arguments: argparse.Namespace) -> int:
    return Environment().run_inside(["-m", "dreambooth_ext.engine", "network", *arguments.given], replace=True)
