"""`ui`: serve the tab in a browser, without a WebUI."""

from __future__ import annotations

import argparse
import sys
import threading

from ..core.system.terminal import StageLine, say
from ..host.environment.environment import Environment
from ..host.web import server, setup_server

HELP = "show the tab in a browser, without a WebUI"
add_arguments = server.add_arguments


def run(arguments: argparse.Namespace) -> int:
    """The page is there at once: until the trainer's environment is made, it shows how that goes."""
    host = server.host_for(arguments)  # what is wrong with the options is said before anything is installed
    environment, given = Environment(), list(arguments.given)
    if environment.status().state != "ready":
        listening = server.bound(arguments.host, arguments.port)
        address, port = server.address_of(listening), listening.getsockname()[1]
        say(f"Setting up: {address}  (Ctrl-C ends it)", stream=sys.stdout)
        if server.shows_page(arguments):
            threading.Thread(target=server.open_page, args=(address,), daemon=True).start()
        with StageLine() as screen:
            setup_server.serve(listening, environment, host.api_auth(), screen)
        given += ["--port", str(port), "--no-browser"]  # the page is open and goes on by itself
    return environment.run_inside(["-m", "dreambooth_ext.host.web.server", *given], replace=True)
