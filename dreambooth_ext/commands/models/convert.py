"""`convert`: convert a model between single file and diffusers folder, formats and precisions."""

from __future__ import annotations

import argparse

from ...core.config import links
from ...core.verbs import convert_options
from ...host.environment.environment import Environment

HELP = "convert a model: file or diffusers folder, precision, .ckpt or .safetensors"
add_arguments = convert_options.add_arguments


def run(arguments: argparse.Namespace) -> int:
    words, variables = links.handed(arguments.given)
    return Environment().run_inside(["-m", "dreambooth_ext.engine", "convert", *words], variables, replace=True)
