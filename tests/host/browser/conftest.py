"""Browser tests: Debian's or any installed Chromium, driven by Playwright; skipped where either is missing."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
uvicorn = pytest.importorskip("uvicorn")

from starlette.applications import Starlette  # noqa: E402 - only where the browser is

from dreambooth_ext.host.web import routes  # noqa: E402
from dreambooth_ext.host.web import server as web_server  # noqa: E402

from .simulator import REPOSITORY, WEBUI_PAGE, Application, Simulator  # noqa: E402

SCREENSHOTS = REPOSITORY / "outputs" / "screenshots"
# The first has no window of its own around a page, and takes half the processor time
CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
GRADIO = ("https://fonts.googleapis.com", "https://cdnjs.cloudflare.com", "https://api.gradio.app")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
# Chromium's own messages about answers that a test provokes, what gradio fetches from elsewhere, and its own faults;
# AUTOMATIC1111's word about a browser without a screen
EXPECTED = (
    "Failed to load resource", "net::ERR_", "Unable to preload CSS", *GRADIO, "/assets/Blocks-",
    "Wake Lock is not supported",
)  # fmt: skip


@pytest.fixture(scope="module")  # not longer: tests/webui has it, too, and Playwright runs only once at a time
def browser():
    path = os.environ.get("CHROMIUM") or next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if not path:
        pytest.skip("no Chromium: apt-get install chromium, or set CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@contextlib.contextmanager
def serving(app) -> Iterator[str]:
    """The address of an ASGI app that a thread serves."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def address(asked) -> Iterator[str]:
    """The true service that `asked` has: the server's page at /, one of a WebUI at /webui."""
    app: Starlette = web_server.application(asked.service)
    app.router.routes += WEBUI_PAGE
    routes.mount(app, asked.service)
    with serving(app) as found:
        yield found


@pytest.fixture
def simulator(tmp_path: Path) -> Simulator:
    return Simulator(tmp_path)


@pytest.fixture
def server(simulator: Simulator) -> Iterator[str]:
    with serving(Application(simulator).app) as address:
        yield address


@pytest.fixture
def open_page(browser) -> Iterator:
    """Opens pages; at the end none of them may have had an error in its console, or asked anybody else."""
    contexts, faults = [], []

    def open_(address: str, **about):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **about})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: faults.append(f"{error.message} {error.stack}"))
        page.on("console", lambda message: message.type == "error" and faults.append(message.text))
        page.on("request", lambda request: watch(request.url))
        page.goto(address)
        return page

    def watch(url: str) -> None:
        if not url.startswith(("http://127.0.0.1", "http://localhost", "data:", "blob:")):
            faults.append(f"asked {url}")

    yield open_
    for context in contexts:
        context.close()
    assert not [fault for fault in faults if not any(known in fault for known in EXPECTED)]


@pytest.fixture
def screenshot():
    def take(page, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    return take
