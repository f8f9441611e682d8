"""`report`: a run as one page to share."""

from __future__ import annotations

import argparse

from ..host.environment.environment import Environment
from ..host.sharing import html_file

HELP = "write a page about a run that is safe to share"
add_arguments = html_file.add_arguments


def run(arguments: argparse.Namespace) -> int:
    return Environment().run_inside(["-m", "dreambooth_ext.host.sharing.html_file", *arguments.given], replace=True)
