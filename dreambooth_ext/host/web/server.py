"""The standalone server: the tab without a WebUI, run inside the trainer's environment."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import signal
import socket
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.checks import config_checks
from ...core.config.parsing import shown
from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.runs import run_folder
from ...core.system import environment_users
from ...core.system.terminal import open_missing_streams, say, shield
from ...core.verbs.path_option import path
from ...core.version import __version__
from ..environment.environment import Environment
from ..environment.interpreter import REPOSITORY
from ..hosts import publishing_targets
from ..hosts.folder_host import FolderHost
from . import page_files

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from ..service.service import Service

PORT = 7870
PATIENCE = 3  # seconds that answers in progress may take when the server ends
FILES = {  # what is served beside the API
    "/": (page_files.PAGE / "index.html", page_files.HTML),
    "/style.css": (page_files.STYLE, page_files.CSS),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, metavar="N", default=PORT, help=f"default: {PORT}; 0 takes a free one")
    parser.add_argument("--host", metavar="NAME", default="127.0.0.1",
                        help="default: 127.0.0.1, for this machine only; 0.0.0.0 for all machines")  # fmt: skip
    parser.add_argument("--api-auth", metavar="USER:PASSWORD", default="",
                        help="ask for this; separate several with commas. Other machines need it")  # fmt: skip
    for program, name in publishing_targets.PROGRAMS.items():
        help = f"publish into this {name}'s model folders"
        parser.add_argument(f"--{program}", type=_folder, metavar="DIR", help=help)
    parser.add_argument("--runs-dir", type=_folder, metavar="DIR", default=run_folder.DEFAULT_RUNS_DIR,
                        help="folder of the runs (default: runs, beside the program)")  # fmt: skip
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in the browser")
    parser.add_argument("--open", action="store_true", help="open it even where no screen is found")


def _folder(text: str) -> Path:
    return path(text).absolute()


def host_for(arguments: argparse.Namespace) -> FolderHost:
    """The host that the options describe. Raises UserError."""
    if not 0 <= arguments.port <= 65535:
        raise UserError("web.no_port", "port", port=arguments.port)
    for problem in config_checks.folder_problems("runs_dir", arguments.runs_dir):
        raise problem.as_error()
    restricted = "" if is_local(arguments.host) else Message("web.server_reachable")
    passwords = read_passwords(arguments.api_auth)
    return FolderHost(
        REPOSITORY, named_target(arguments), runs=arguments.runs_dir, passwords=passwords, restricted=restricted
    )


def named_target(arguments: argparse.Namespace) -> publishing_targets.Target | None:
    """The program to publish into that the options name. Raises UserError."""
    named = publishing_targets.named_option(arguments)
    return publishing_targets.target(named, getattr(arguments, named)) if named else None


def read_passwords(text: str) -> dict[str, str]:
    """User -> password, as the WebUI reads its --api-auth. Raises UserError."""
    found = {}
    for pair in filter(None, text.split(",")):
        user, _, password = pair.partition(":")
        if not user or not password:
            raise UserError("web.bad_api_auth", "api_auth")
        found[user] = password
    return found


def is_local(name: str) -> bool:
    if name == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return False


def application(service: Service) -> Starlette:
    """The app: the page, its style, and the API."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    from . import routes

    files = [Route(path, _show_file, name="file", methods=["GET"]) for path in FILES]
    app = Starlette(routes=files)
    routes.mount(app, service)
    return app


async def _show_file(request: Request) -> Response:
    from starlette.responses import FileResponse

    path, kind = FILES[request.url.path if request.url.path in FILES else "/"]
    return FileResponse(path, headers=page_files.HEADERS, media_type=kind)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at that address. Raises UserError if the system refuses."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise UserError("web.no_address", "host", address=shown(host)) from None
    made = socket.socket(family, kind, protocol)
    try:
        if os.name != "nt":  # there, it would let two programs have the same port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen()  # from here on, whoever asks waits for the server, which needs a moment
    except OSError as error:
        made.close()
        other = port + 1 if port < 65535 else PORT
        raise UserError("web.port_taken", "port", port=port, error=error.strerror, other=other) from None
    return made


def address_of(listening: socket.socket) -> str:
    """The page's address, as this machine's browser opens it."""
    name, port = listening.getsockname()[:2]
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C. Raises UserError."""
    import uvicorn

    from ..service.service import Service

    host = host_for(arguments)
    listening = bound(arguments.host, arguments.port)
    service = Service(host, Environment())
    # proxy_headers: else uvicorn believes what a proxy, or who says to be one, tells of the caller
    server = uvicorn.Server(
        uvicorn.Config(
            application(service),
            lifespan="off",
            log_level="error",  # of its warnings, all are about what a caller sent
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=PATIENCE,
        )
    )
    address = address_of(listening)
    about = f"(Ctrl-C stops it; runs are in {arguments.runs_dir})"
    say(f"DreamBooth {__version__}: {address}  {about}", stream=sys.stdout)
    if host.restricted() and not host.api_auth():
        say("Only this machine has access. To let others in, add --api-auth USER:PASSWORD")
    if shows_page(arguments):
        threading.Thread(target=_open, args=(server, address), daemon=True).start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what follows is done then, too
    service.start()
    with environment_users.joined("ui"), contextlib.closing(service), contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
    return 0


def shows_page(arguments: argparse.Namespace) -> bool:
    """Whether to open the browser: not on a machine without a screen, where it would be a text browser or an error."""
    if arguments.no_browser or arguments.open:
        return not arguments.no_browser
    if os.environ.get("SSH_CONNECTION"):
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def open_page(address: str) -> None:
    """To be called in a thread: a browser that is started may keep its caller waiting. Without one, nothing happens."""
    with contextlib.suppress(webbrowser.Error, OSError):
        webbrowser.open(address)


def _open(server: Any, address: str) -> None:
    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.1)
    open_page(address)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dreambooth_ext ui", allow_abbrev=False)
    add_arguments(parser)
    try:
        return run(parser.parse_args())
    except UserError as error:
        say(f"error: {error}")
        return 1


if __name__ == "__main__":
    open_missing_streams()
    shield()
    sys.exit(main())
