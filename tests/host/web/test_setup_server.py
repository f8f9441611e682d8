"""The page before there is an environment: asked over the network, with a set-up that does as it is told."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import posixpath
import re
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.messages.message import Message
from dreambooth_ext.core.system.terminal import silent
from dreambooth_ext.host.environment.environment import Environment, Status
from dreambooth_ext.host.web import server, setup_server

API = "/dreambooth/v1"


class Slow(Environment):
    """Its set-up goes on until it is told how it ends."""

    def __init__(self, folder):
        super().__init__(folder)
        self.state, self.end, self.times = "missing", "", 0

    def status(self) -> Status:
        return Status(self.state, Message("environment.missing"), str(self.folder))

    def build(self, progress=silent, *anything, **named) -> Status:
        self.times, self.end = self.times + 1, ""
        while not self.end:
            progress(0.5, Message("environment.pip_unpacking"))
            time.sleep(0.01)
        if self.end != "ready":
            raise UserError(self.end, "environment", needed="6 GB", free="1 GB", folder="x")
        self.state = "ready"
        return self.status()


class Page:
    def __init__(self, tmp_path, passwords):
        self.environment = Slow(tmp_path / "environment")
        listening = server.bound("127.0.0.1", 0)
        self.port, self.seen = listening.getsockname()[1], []
        about = (listening, self.environment, passwords, lambda share, text: self.seen.append(text))
        self.thread = threading.Thread(target=setup_server.serve, args=about, daemon=True)
        self.thread.start()

    def ask(self, path: str, action: str | None = None, body: str | None = None, **headers: str) -> SimpleNamespace:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        body = json.dumps({"action": action}) if action else body
        kind = {"Content-Type": "application/json"} if body else {}
        connection.request("POST" if body else "GET", path, body, {**kind, **headers})
        answer = connection.getresponse()
        text = answer.read().decode()
        return SimpleNamespace(status=answer.status, headers=answer.headers, text=text)

    def environment_until(self, check) -> dict:
        while not check(now := json.loads(self.ask(f"{API}/environment").text)):
            time.sleep(0.02)
        return now


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *anything: None)  # threads may not
    opened: list[Page] = []

    def open_(passwords=None) -> Page:
        opened.append(Page(tmp_path, passwords or {}))
        return opened[-1]

    yield open_
    for one in opened:
        one.environment.end = one.environment.state = "ready"
        one.thread.join(20)
        assert not one.thread.is_alive()


def test_it_shows_the_page_and_how_the_set_up_goes_until_it_is_ready(page):
    shown = page()
    html = shown.ask("/")
    assert html.status == 200 and "script-src 'self'" in html.headers["Content-Security-Policy"]
    linked = [link for link in re.findall(r'(?:src|href)="([^"]+)"', html.text) if not link.startswith("data:")]
    seen = set()
    while linked:
        address = linked.pop()
        if address not in seen:
            seen.add(address)
            file = shown.ask(f"/{address}")
            assert file.status == 200, address
            names = re.findall(r'from "(\.[^"]+)"', file.text) if address.endswith(".js") else []
            linked += [posixpath.normpath(f"{address}/../{name}") for name in names]
    assert len(seen) > 8 and f"{API}/page/host/setup.js".strip("/") in seen
    now = shown.environment_until(lambda now: now["building"] and now["building"]["fraction"])
    assert now["setting_up"] and now["building"]["stage_code"] == "environment.pip_unpacking"
    assert now["building"]["cancels"] and "unpacking" in shown.seen
    assert "ru_RU" in json.loads(shown.ask(f"{API}/languages").text)["languages"]
    assert json.loads(shown.ask(f"{API}/languages/ru_RU").text)["environment.pip_unpacking"]
    for path in ("/nothing", f"{API}/page/../../errors.py", f"{API}/page/%2e%2e/errors.py", f"{API}/runs"):
        assert shown.ask(path).status == 404
    shown.environment.end = "ready"
    shown.thread.join(20)
    assert not shown.thread.is_alive()
    with pytest.raises(OSError):
        shown.ask("/")
    with contextlib.closing(server.bound("127.0.0.1", shown.port)):
        """The tab's server can have the address."""


def test_what_stops_it_is_a_sentence_and_it_can_begin_anew(page, capsys):
    shown = page()
    shown.environment_until(lambda now: now["building"])
    assert shown.ask(f"{API}/environment", "cancel").status == 202
    now = shown.environment_until(lambda now: not now["building"])
    assert now["problem"]["message"] == "You stopped the set-up." and now["state"] == "missing"
    assert shown.ask(f"{API}/environment", "cancel").status == 409
    assert shown.ask(f"{API}/environment", "repair").status == 202
    shown.environment_until(lambda now: now["building"] and shown.environment.times == 2)
    shown.environment.end = "environment.no_space"
    now = shown.environment_until(lambda now: not now["building"])
    assert now["problem"]["code"] == "environment.no_space" and "Free some space" in now["problem"]["remedy"]
    assert shown.thread.is_alive()
    while "needs 6 GB" not in (said := capsys.readouterr().err):
        time.sleep(0.05)
    assert "error: environment: " in said
    shown.environment.state = "ready"  # by `env --repair` in a terminal
    shown.thread.join(20)
    assert not shown.thread.is_alive()


def test_only_this_machine_s_own_pages_get_in(page):
    shown = page()
    assert shown.ask(f"{API}/environment", "cancel", Origin="https://evil.example").status == 403
    assert shown.ask(f"{API}/environment", Host="evil.example").status == 403
    assert shown.ask(f"{API}/environment", **{"X-Forwarded-For": "127.0.0.1"}).status == 403
    assert shown.ask(f"{API}/environment", "cancel", **{"Content-Type": "text/plain"}).status == 415
    assert shown.ask(f"{API}/environment", "x" * 9000).status == 413
    for length in ("0000000009999999999", "²", "-1", ""):
        assert shown.ask(f"{API}/environment", "cancel", **{"Content-Length": length}).status == 413
    assert shown.ask(f"{API}/environment", body="[" * 4000).status == 400
    assert shown.ask(f"{API}/runs", "cancel").status == 503


def test_a_password_is_asked_for(page):
    shown = page({"ann": "secret"})
    assert shown.ask("/").status == 200
    refused = shown.ask(f"{API}/environment")
    assert refused.status == 401 and refused.headers["WWW-Authenticate"].startswith("Basic")
    word = base64.b64encode(b"ann:secret").decode()
    assert shown.ask(f"{API}/environment", Authorization=f"Basic {word}").status == 200


@pytest.mark.parametrize(
    ("platform", "variables", "options", "shows"),
    [
        ("linux", {}, [], False),
        ("linux", {"DISPLAY": ":0"}, [], True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, [], True),
        ("linux", {"DISPLAY": ":10", "SSH_CONNECTION": "a"}, [], False),
        ("linux", {"DISPLAY": ":0"}, ["--no-browser"], False),
        ("linux", {}, ["--open"], True),
        ("win32", {}, [], True),
        ("darwin", {}, [], True),
    ],
)
def test_the_browser_opens_where_there_is_a_screen(monkeypatch, platform, variables, options, shows):
    import argparse

    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(server.sys, "platform", platform)
    parser = argparse.ArgumentParser()
    server.add_arguments(parser)
    assert server.shows_page(parser.parse_args(options)) is shows
