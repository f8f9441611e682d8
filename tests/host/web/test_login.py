"""The guard in front of the real gradio, 3 and 4: its own login, its own server, its own app."""

from __future__ import annotations

import http.cookiejar
import json
import os
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("PIL")

from tests.host.standin import running
from tests.host.standin.running import Standin

API = "dreambooth/v1"
OWN = {"Sec-Fetch-Site": "same-origin"}
FOREIGN = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
PASSWORD = {"Authorization": "Basic YXBpOnNlY3JldA=="}  # api:secret


class Browser:
    """Keeps cookies."""

    def __init__(self, address: str):
        self.address = address
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        )

    def ask(self, path: str, headers: dict | None = None, body: bytes | None = None, kind: str = "application/json"):
        """(status, headers, what was answered)"""
        sent = {**({"Content-Type": kind} if body is not None else {}), **(headers or {})}
        request = urllib.request.Request(f"{self.address}/{path}", body, sent)
        try:
            with self.opener.open(request, timeout=60) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def wait(self) -> None:
        """Without a page, the server begins after it has said so."""
        deadline = time.monotonic() + 30
        while True:
            try:
                self.status()
                return
            except urllib.error.URLError:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def login(self, user: str, password: str) -> int:
        form = urllib.parse.urlencode({"username": user, "password": password}).encode()
        return self.ask("login", body=form, kind="application/x-www-form-urlencoded")[0]

    def status(self, headers: dict | None = None, body: bytes | None = None) -> int:
        return self.ask(f"{API}/queue", headers, body)[0]


def webui(folder: Path, gradio: int, *options: str) -> Iterator[Standin]:
    data = folder / "данные"
    running.install_extension(data)
    return running.running(data, gradio=gradio, options=options)


def far_address(standin: Standin) -> str:
    """The same server by this machine's address in its network; skips where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.1", 9))  # sends nothing
            name = probe.getsockname()[0]
        except OSError:
            name = "127.0.0.1"
    if name.startswith("127."):
        pytest.skip("this machine is in no network")
    return standin.address.replace("127.0.0.1", name)


ORDER = json.dumps({"order": []}).encode()


@pytest.mark.parametrize("gradio", [3, 4])
def test_the_login_of_the_page(tmp_path, gradio):
    with webui(tmp_path, gradio, "--gradio-auth", "ann:geheim") as standin:
        stranger, ann = Browser(standin.address), Browser(standin.address)
        status, headers, said = stranger.ask(f"{API}/queue")
        assert status == 401 and "WWW-Authenticate" not in headers and b"Log in" in said
        assert stranger.status({"Cookie": "access-token=x; access-token-unsecure=y"}) == 401
        assert stranger.login("ann", "wrong") >= 400 and stranger.status() == 401
        assert ann.login("ann", "geheim") == 200
        assert ann.status(OWN) == 200 and ann.status(OWN, ORDER) == 200
        assert ann.status(FOREIGN, ORDER) == 403  # somebody else's page with ann's cookies
        assert stranger.ask(f"{API}/page/main.js")[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize("gradio", [3, 4])
def test_login_or_password(tmp_path, gradio):
    options = ("--gradio-auth", "ann:geheim", "--api", "--api-auth", "api:secret")
    with webui(tmp_path, gradio, *options) as standin:
        stranger, ann = Browser(standin.address), Browser(standin.address)
        assert stranger.ask(f"{API}/queue")[1]["WWW-Authenticate"].startswith("Basic")
        assert stranger.status(PASSWORD) == 200 and stranger.status(PASSWORD, ORDER) == 200
        assert ann.login("ann", "geheim") == 200 and ann.status() == 200
        assert stranger.status() == 401


@pytest.mark.slow
@pytest.mark.parametrize("gradio", [3, 4])
def test_with_neither_this_machine_alone(tmp_path, gradio):
    with webui(tmp_path, gradio, "--listen") as standin:
        near = Browser(standin.address)
        assert near.status(OWN) == 200 and near.status(OWN, ORDER) == 200 and near.status() == 200
        assert near.status(FOREIGN) == 403 and near.status(FOREIGN, ORDER) == 403
        assert near.status({"Host": "evil.example"}) == 403
        assert near.status({"X-Forwarded-For": "127.0.0.1"}) == 403  # gradio's server believes it
        assert near.status(body=ORDER, headers={"Content-Type": "text/plain"}) == 415
        config = json.dumps({"config": {"base_model": "a/b"}}).encode()
        status, _, said = near.ask(f"{API}/check", body=config)
        assert status == 403 and b"--listen" in said  # as the host forbids it
        far = Browser(far_address(standin))
        assert far.status() == 403 and far.status(OWN, ORDER) == 403
        assert far.status({"X-Forwarded-For": "127.0.0.1"}) == 403


@pytest.mark.slow
def test_without_a_page(tmp_path):
    """--nowebui: there is nowhere to log in, so the password or this machine alone."""
    with webui(tmp_path, 3, "--nowebui", "--api", "--gradio-auth", "ann:geheim") as standin:
        near = Browser(standin.address)
        near.wait()
        assert near.status(OWN, ORDER) == 200 and near.status(FOREIGN) == 403
    with webui(
        tmp_path / "other", 3, "--nowebui", "--api", "--api-auth", "api:secret", "--gradio-auth", "a:b"
    ) as standin:
        near = Browser(standin.address)
        near.wait()
        assert near.status() == 401 and near.status(PASSWORD, ORDER) == 200


@pytest.mark.slow
def test_what_the_webui_gives_away_holds_no_secret(tmp_path):
    """Everybody may read what lies below the data folder: our files there must hold no password."""
    with webui(tmp_path, 3, "--api", "--api-auth", "api:very-secret-word") as standin:
        assert (
            Browser(standin.address).ask(f"{API}/host", {"Authorization": "Basic YXBpOnZlcnktc2VjcmV0LXdvcmQ="})[0]
            == 200
        )
        for path in (standin.data / "dreambooth").rglob("*"):
            assert path.is_dir() or b"very-secret-word" not in path.read_bytes()
        assert os.listdir(standin.data)
