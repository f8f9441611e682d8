"""`verdict`: which of a run's saved models to keep, why, and what to change next."""

from __future__ import annotations

import argparse

from ..core.verbs import verdict_options
from ..host.environment.environment import Environment

HELP = "judge a run's saved models: which one to keep, and why"
add_arguments = verdict_options.add_arguments


def run(arguments: argparse.Namespace) -> int:
    return Environment().run_inside(["-m", "dreambooth_ext.engine", "verdict", *arguments.given], replace=True)
