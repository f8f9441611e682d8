"""Starting and ending a stand-in, for tests: `with running(data, gradio=3, options=["--api"]) as webui: ...`"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dreambooth_ext.host.environment.interpreter import clean_variables

from . import environments

REPOSITORY = Path(__file__).parents[3]
PARTS = ("install.py", "scripts", "javascript", "style.css", "localizations", "dreambooth_ext")
START = 120  # seconds


class Standin:
    def __init__(self, data: Path, port: int, process: subprocess.Popen, log: Path):
        self.data, self.process, self.log = data, process, log
        self.address = f"http://127.0.0.1:{port}"
        self.checkpoints = data / "models" / "Stable-diffusion"

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def running(
    data: Path,
    *,
    gradio: int | str = 3,
    python: tuple[int, int] | None = None,
    options: Sequence[str] = (),
    variables: dict[str, str] | None = None,
) -> Iterator[Standin]:
    """A stand-in with its models, settings and extensions in `data`; ended hard at the end, as a user ends a WebUI."""
    data.mkdir(parents=True, exist_ok=True)
    port = free_port()
    log = data / "standin.log"
    try:
        program = command(data, gradio, port, options, python)
    except environments.NoPython as reason:
        pytest.skip(str(reason))
    with log.open("wb") as output:
        process = subprocess.Popen(program, cwd=data, env=environment(variables), stdout=output, stderr=output)
    standin = Standin(data, port, process, log)
    try:
        wait_for(standin)
        yield standin
    finally:
        end(process)


def command(
    data: Path, gradio: int | str, port: int, options: Sequence[str], python: tuple[int, int] | None = None
) -> list[str]:
    program = [str(environments.python(gradio, python)), str(Path(__file__).with_name("program.py"))]
    return [*program, "--data-dir", str(data), "--port", str(port), *options]


def environment(variables: dict[str, str] | None) -> dict[str, str]:
    return clean_variables(
        PYTHONUNBUFFERED="1", GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1", **(variables or {})
    )


def wait_for(standin: Standin) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and standin.process.poll() is None:
        if "Startup time:" in standin.said() and answers(standin.address):  # with --nowebui, it listens a bit later
            return
        time.sleep(0.1)
    raise AssertionError("the stand-in does not start:\n" + standin.said()[-3000:])


def answers(address: str) -> bool:
    host, _, port = address.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def end(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def install_extension(data: Path, name: str = "dreambooth", *, link: bool = True) -> Path:
    """Our repository as an extension in a folder of that name; a link, or a copy as git would make it."""
    folder = data / "extensions" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    if link and os.name != "nt":
        folder.symlink_to(REPOSITORY, target_is_directory=True)
        return folder
    folder.mkdir()
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, folder / part)
    return folder


def add_checkpoint(data: Path, name: str, content: bytes) -> Path:
    """A "checkpoint": the stand-in draws in a colour that follows from the content."""
    path = data / "models" / "Stable-diffusion" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
