"""The page while the trainer's environment is made, whose packages our server needs: standard library only.

It shows the progress, and can cancel and begin anew. The same address then shows the tab: see commands/ui.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import signal
import socket
import threading
from email.message import Message as Fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ...core.errors import UserError
from ...core.system import files
from ...core.system.terminal import Stages, say
from ...core.version import __version__
from ..environment.environment import Environment
from ..environment.maintenance import Maintenance
from ..errors import Refusal, told
from . import localization, page_files
from .callers import basic_user, check_local, is_foreign, is_local, unknown
from .page_files import HEADERS, PREFIX

FILES = {
    "/": (page_files.PAGE / "setup.html", page_files.HTML),
    "/style.css": (page_files.STYLE, page_files.CSS),
}
LARGEST = 4096  # bytes of a request's body
SILENCE = 15.0  # seconds after which a caller that says nothing is left
LOOK = 0.3  # seconds between looks at whether it is ready


class SetupServer(ThreadingHTTPServer):
    """Serves at a socket that listens already."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, maintenance: Maintenance, passwords: dict[str, str]):
        super().__init__(listening.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.maintenance, self.passwords = listening, maintenance, passwords

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no news."""


def serve(listening: socket.socket, environment: Environment, passwords: dict[str, str], screen: Stages) -> None:
    """Make the environment, and show how it goes until it is ready; closes the socket. Ctrl-C ends the set-up, too."""
    maintenance = Maintenance(environment, screen)
    server = SetupServer(listening, maintenance, passwords)
    threading.Thread(target=server.serve_forever, args=(LOOK,), name="dreambooth_ext page", daemon=True).start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that pip ends with us then, too
    failed, pause = None, threading.Event()
    try:
        maintenance.begin("repair")
        while maintenance.building or not maintenance.is_ready():
            if maintenance.problem is not failed:
                failed = maintenance.problem
                if failed:
                    say(f"error: {failed}", "The page says what can be done; Ctrl-C ends this.")
            pause.wait(LOOK)
    finally:
        with contextlib.suppress(Refusal):
            maintenance.cancel()
        while maintenance.building:
            pause.wait(LOOK)
        server.shutdown()
        server.server_close()


class Named:
    """A request's headers, as callers.py asks them."""

    def __init__(self, fields: Fields):
        self.fields = fields

    def get(self, key: str, default: str, /) -> str:
        return str(self.fields.get(key, default))

    def getlist(self, key: str, /) -> list[str]:
        return [str(value) for value in self.fields.get_all(key, [])]

    def __contains__(self, key: object, /) -> bool:
        return isinstance(key, str) and key in self.fields


class Handler(BaseHTTPRequestHandler):
    server: SetupServer
    timeout = SILENCE
    server_version, sys_version = "DreamBooth", ""

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        found = FILES.get(path)
        if path.startswith(f"{PREFIX}/page/"):
            found = page_files.find(path.removeprefix(f"{PREFIX}/page/"))
        if found:
            self.send_file(*found)
        else:
            self.answer(path, reading=True)

    def do_POST(self) -> None:
        self.answer(urlsplit(self.path).path, reading=False)

    def answer(self, path: str, reading: bool) -> None:
        try:
            self.admit(reading)
            self.send_json(200 if reading else 202, self.read(path) if reading else self.change(path))
        except UserError as error:
            extra = getattr(error, "headers", None) or {}
            self.send_json(getattr(error, "status", 422), told(error.problem), extra)

    def admit(self, reading: bool) -> None:
        """As auth.py has it. Raises a Refusal (401, 403)."""
        headers = Named(self.headers)
        foreign = is_foreign(headers)
        if foreign and not reading:
            raise Refusal(403, "web.foreign_change")
        if not self.server.passwords:
            check_local(is_local(self.client_address[0], headers), foreign, headers)
        elif basic_user(headers, self.server.passwords) is None:
            raise unknown("web.password", asks=True)

    def read(self, path: str) -> dict[str, Any]:
        if path == f"{PREFIX}/environment":
            return {**self.server.maintenance.status(), "version": __version__, "setting_up": True}
        if path == f"{PREFIX}/languages":
            return {"languages": localization.languages()}
        if path.startswith(f"{PREFIX}/languages/"):
            return localization.language(path.rpartition("/")[2])
        raise Refusal(404, "web.no_route")

    def change(self, path: str) -> dict[str, Any]:
        if path != f"{PREFIX}/environment":
            raise Refusal(503, "environment.in_the_making", "environment")
        if self.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refusal(415, "web.not_sent_as_json", "Content-Type")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,4}", length) or int(length) > LARGEST:
            raise Refusal(413, "web.too_large", most=f"{LARGEST} B")
        try:
            wanted = files.parse_json(self.rfile.read(int(length)))
        except ValueError as error:
            raise Refusal(400, "web.bad_json", error=str(error)[:300]) from None
        action = wanted.get("action") if isinstance(wanted, dict) else None
        if not isinstance(action, str):
            raise UserError("web.missing_text", "action", name="action")
        self.server.maintenance.begin(action)
        return self.read(path)

    def send_file(self, path: Path, kind: str) -> None:
        content = path.read_bytes()
        self.send(200, content, {"Content-Type": kind, "ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'})

    def send_json(self, status: int, values: Any, extra: dict[str, str] | None = None) -> None:
        content = json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")
        self.send(status, content, {"Content-Type": "application/json", **(extra or {})})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, **headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
