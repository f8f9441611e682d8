"""`network`: merge LoRA files into a model, extract a LoRA from two models, or change a LoRA's rank."""

from __future__ import annotations

import argparse

from ...core.config import links
from ...core.verbs import network_options
from ...host.environment.environment import Environment

HELP = "merge LoRA files into a model, extract one from two models, or give one another rank"
add_arguments = network_options.add_arguments


def run(arguments: argparse.Namespace) -> int:
    words, variables = links.handed(arguments.given)
    return Environment().run_inside(["-m", "dreambooth_ext.engine", "network", *words], variables, replace=True)
