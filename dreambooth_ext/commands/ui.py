"""`ui`: serve the tab in a browser, without a WebUI."""

from __future__ import annotations

import argparse

from ..host.environment.environment import Environment
from ..host.web import server

HELP = "show the tab in a browser, without a WebUI"
add_arguments = server.add_arguments


def run(arguments: argparse.Namespace) -> int:
    server.host_for(arguments)  # what is wrong with the options is said before anything is installed
    return Environment().run_inside(["-m", "dreambooth_ext.host.web.server", *arguments.given], replace=True)
