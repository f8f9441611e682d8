"""The tab without a WebUI: the real server in a process of its own, asked over the network."""

from __future__ import annotations

import http.client
import json
import os
import posixpath
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.version import __version__
from dreambooth_ext.host.web import server as serve

REPOSITORY = Path(__file__).parents[3]
API = "dreambooth/v1"


@dataclass
class Server:
    process: subprocess.Popen
    port: int

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, http.client.HTTPMessage, bytes]:
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", headers=headers or {})
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def raw(self, text: bytes) -> bytes:
        """What comes back for these bytes, which need not be HTTP."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(text)
            answer = b""
            while part := connection.recv(65536):
                answer += part
            return answer


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Server]:
    command = [
        sys.executable,
        "-m",
        "dreambooth_ext.host.web.server",
        "--port",
        "0",
        "--runs-dir",
        str(folder / "runs"),
    ]
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUTF8": "1"},
    )
    try:
        said = process.stdout.readline()
        port = re.search(r"http://[^ ]+:(\d+)/", said)
        assert port, said + process.communicate()[0]
        yield Server(process, int(port[1]))
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("мои runs")) as server:
        yield server


def test_the_page_and_all_that_it_loads(server):
    status, headers, page = server.get("")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert (
        "script-src 'self'" in headers["Content-Security-Policy"] and "unsafe" not in headers["Content-Security-Policy"]
    )
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.decode())
    linked = [address for address in linked if not address.startswith("data:")]
    assert len(linked) == 3
    seen = set()
    while linked:
        address = linked.pop()
        if address in seen:
            continue
        seen.add(address)
        status, headers, text = server.get(address)
        assert status == 200, address
        wanted = "text/css" if address.endswith(".css") else "text/javascript"
        assert headers["Content-Type"].startswith(wanted) and headers["X-Content-Type-Options"] == "nosniff"
        if wanted == "text/javascript":
            linked += [
                posixpath.normpath(f"{address}/../{name}") for name in re.findall(r'from "(\.[^"]+)"', text.decode())
            ]
    assert len(seen) > 30


def test_the_api(server):
    status, _, body = server.get(f"{API}/version")
    assert status == 200 and json.loads(body) == {"version": __version__, "protocol": 1, "host": "standalone"}
    for path in ("state", "host", "schema", "presets", "environment", "runs", "queue", "pictures"):
        status, _, body = server.get(f"{API}/{path}")
        assert status == 200 and isinstance(json.loads(body), dict), path


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "//etc/passwd", "/style.css/../../README.md", f"/{API}/page/../api.py",
        f"/{API}/page/..%2fapi.py", f"/{API}/page/shared/../../errors.py", f"/{API}/page/shared%2f..%2f..%2ferrors.py",
        f"/{API}/page/%2e%2e/errors.py", f"/{API}/page/..%2ferrors.py", f"/{API}/page/..%5cerrors.py",
        f"/{API}/page/%2e%2e/api.py", f"/{API}/page/..%5capi.py", f"/{API}/runs/%00",
        f"/{API}/runs/..%2f..%2f", f"/{API}/pictures/%2e%2e/a.png", f"/{API}/pictures/..%2f..%2fa/b.png",
        f"/{API}/runs/x/samples/1/%2e%2e%2f%2e%2e%2fstate.json",
    ],
)  # fmt: skip
def test_paths_as_they_are(server, path):
    """As no browser sends them."""
    answer = server.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1.1 (404|422) ", answer), answer[:200]
    assert b"root:" not in answer and b"import" not in answer


def test_what_a_proxy_says_is_not_believed(server):
    for header in ("X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 8.8.8.8", "Forwarded: for=127.0.0.1"):
        name, value = header.split(": ")
        assert server.get(f"{API}/version", {name: value})[0] == 403
    assert server.get(f"{API}/version", {"Host": "evil.example"})[0] == 403
    assert server.get(f"{API}/version", {"Origin": "https://evil.example"})[0] == 403
    assert server.get("", {"Host": "evil.example"})[0] == 200  # which tells nothing


def test_bodies_that_are_too_large_hear_why(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for size, kind in ((3 * 2**20, "application/json"), (2**20 + 1, "application/json")):
        connection.request("POST", f"/{API}/check", b" " * size, {"Content-Type": kind})
        answer = connection.getresponse()
        assert answer.status == 413 and b"larger than" in answer.read()
    connection.request("PUT", f"/{API}/pictures/s/a.png", b"\0" * 52 * 2**20, {"Content-Type": "image/png"})
    assert connection.getresponse().status == 413


def test_requests_that_are_none(server):
    for text in (b"\0\xff\r\n\r\n", b"GET /\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        assert b" 500 " not in server.raw(text)[:30]
    assert server.get(f"{API}/version")[0] == 200


def test_a_password(tmp_path):
    with running(tmp_path, "--api-auth", "ann:secret,bob:x:y") as server:
        status, headers, _ = server.get(f"{API}/version")
        assert status == 401 and headers["WWW-Authenticate"].startswith("Basic")
        assert server.get("")[0] == 200 and server.get(f"{API}/page/main.js")[0] == 200
        assert server.get(f"{API}/version", {"Authorization": "Basic Ym9iOng6eQ=="})[0] == 200


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_quietly(tmp_path, number):
    with running(tmp_path) as server:
        assert server.get(f"{API}/state")[0] == 200
        server.process.send_signal(number)
        said, _ = server.process.communicate(timeout=30)
        assert server.process.returncode == 0 and "Traceback" not in said


def test_addresses_that_cannot_be_had():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UserError, match="cannot be used"):
            serve.bound("127.0.0.1", other.getsockname()[1])
    with pytest.raises(UserError, match="There is no address"):
        serve.bound("no such name.invalid", 0)
    with serve.bound("0.0.0.0", 0) as made:
        assert serve.address_of(made) == f"http://127.0.0.1:{made.getsockname()[1]}/"


def options(*argv: str):
    import argparse

    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return parser.parse_args(argv)


def test_what_the_options_mean(tmp_path):
    host = serve.host_for(options("--runs-dir", str(tmp_path / "r")))
    assert host.runs_folder() == tmp_path / "r" and host.restricted() == "" and host.api_auth() == {}
    for name in ("127.0.0.1", "localhost", "::1"):
        assert serve.host_for(options("--host", name)).restricted() == ""
    for name in ("0.0.0.0", "::", "192.168.1.5", "gpu.example"):
        assert "other machines" in serve.host_for(options("--host", name)).restricted()
    assert serve.read_passwords("a:b,c:d:e,") == {"a": "b", "c": "d:e"}
    for wrong in ("a", "a:", ":b", "a:b,c"):
        with pytest.raises(UserError, match="USER:PASSWORD"):
            serve.read_passwords(wrong)
    for wrong in (["--port", "-1"], ["--port", "70000"], ["--webui", str(tmp_path / "none")], ["--runs-dir", __file__]):
        with pytest.raises(UserError):
            serve.host_for(options(*wrong))


def test_the_verb_says_what_is_wrong_before_it_installs_anything(monkeypatch, capsys):
    from dreambooth_ext.__main__ import main

    monkeypatch.setattr(
        "dreambooth_ext.host.environment.environment.Environment.ensure", lambda *a, **k: pytest.fail("installs")
    )
    assert main(["ui", "--port", "99999"]) == 1
    assert "error: port: 99999 is not a port" in capsys.readouterr().err
