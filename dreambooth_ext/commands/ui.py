"""`ui`: the tab in a browser, without a WebUI."""

from __future__ import annotations

import argparse

from ..host import serve
from ..host.environment.environment import Environment

HELP = "show the tab in a browser, without a WebUI"
add_arguments = serve.add_arguments


def run(arguments: argparse.Namespace) -> int:
    serve.host_for(arguments)  # what is wrong with the options is said before anything is installed
    return Environment().run_inside(["-m", "dreambooth_ext.host.serve", *arguments.given], replace=True)
