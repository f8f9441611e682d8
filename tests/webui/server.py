"""A real WebUI, started on a free port with its own data folder, and asked through its API."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dreambooth_ext.engine.models.architecture import Architecture
from dreambooth_ext.engine.models.families import FAMILIES
from dreambooth_ext.host.environment.interpreter import clean_variables
from tests import tiny
from tests.webui.sizes import shrink

START = 1200  # seconds; it takes ten on an idle machine, Forge fifty, and more where several work
TRIES = 3  # with another port each
TAKEN = "Cannot find empty port"  # gradio's words
# On the CPU and in float32, offline, with the scanner of pickles on; of these, a WebUI gets those that it has.
OPTIONS = """--skip-prepare-environment --skip-torch-cuda-test --skip-version-check --api --no-gradio-queue
--use-cpu=all --no-half --precision=full --no-download-sd-model --do-not-download-clip --always-cpu --all-in-fp32
--cpu --force-fp32 --fp32-text-enc --clip-in-fp32"""
ARGUMENTS = ("modules/cmd_args.py", "backend/args.py", "ldm_patched/modules/args_parser.py")  # where options are told
# Random numbers from the CPU and no clip skip, as `generate` draws; Forge Neo's own clip skip is 2.
SETTINGS = {
    "randn_source": "CPU",
    "CLIP_stop_at_last_layers": 1,
    "live_previews_enable": False,
    "samples_save": False,
    "grid_save": False,
}

OWN_SETTINGS = {"sdxl_zero_neg": True}  # Forge Neo's: SDXL's empty negative prompt is nothing, as everywhere else


class WebUI:
    def __init__(self, data: Path, port: int):
        self.data = data
        self.checkpoints = data / "models" / "Stable-diffusion"
        self.address = f"http://127.0.0.1:{port}"

    def call(self, route: str, content: Any = None, **query: str) -> Any:
        """GET `route`, or POST `content` to it, as JSON."""
        address = f"{self.address}/{route}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{route}: {error.code} {error.read().decode()[:2000]}") from error

    def load(self, name: str) -> None:
        """Choose a checkpoint by its file name, as a user does after pressing the list's refresh button."""
        self.call("sdapi/v1/refresh-checkpoints", {})
        own = {key: value for key, value in OWN_SETTINGS.items() if key in self.call("sdapi/v1/options")}
        self.call("sdapi/v1/options", {"sd_model_checkpoint": name, **SETTINGS, **own})

    def draw(self, **settings: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """txt2img: the picture, and what the WebUI says about it."""
        answer = self.call("sdapi/v1/txt2img", settings)
        with Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))) as picture:
            return np.asarray(picture.convert("RGB")), json.loads(answer["info"])

    def draw_as_said(self, infotext: str) -> np.ndarray:
        """What a picture's text asks for. Skips the test in Forge Neo 2.26, whose API stumbles over any such text."""
        try:
            return self.draw(infotext=infotext)[0]
        except RuntimeError as error:
            if "parameterized generic" in str(error):
                pytest.skip("this WebUI's API reads no text of a picture")
            raise


@contextlib.contextmanager
def running(root: Path, data: Path, **models: Architecture) -> Iterator[WebUI]:
    """Start the WebUI installed in `root`, its models and settings in `data`.

    models: the architectures, by family, that it is to load in the place of tests/tiny.py's.
    """
    (data / "tmp").mkdir(parents=True, exist_ok=True)  # where Forge Neo puts pictures that are not saved; makes it not
    shrink(root, data, {**{family: tiny.architecture(family) for family in FAMILIES}, **models})
    python = next(path for path in (root / "venv/Scripts/python.exe", root / "venv/bin/python") if path.exists())
    variables = clean_variables(HF_HOME=str(data / "hub"), HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", COMMANDLINE_ARGS="")
    log = data / "log.txt"

    def launch(port: int) -> subprocess.Popen:
        command = [str(python), "launch.py", "--data-dir", str(data), "--port", str(port), *options(root)]
        with log.open("wb") as output:
            return subprocess.Popen(command, cwd=root, env=variables, stdout=output, stderr=subprocess.STDOUT)

    process, port = started(launch, log)
    try:
        yield WebUI(data, port)
    finally:
        end(process)


def started(launch: Callable[[int], subprocess.Popen], log: Path) -> tuple[subprocess.Popen, int]:
    """`launch` with a free port, and with another one where somebody else took it until the WebUI was that far."""
    for attempt in range(1, TRIES + 1):
        port = free_port()
        process = launch(port)
        try:
            wait_for(process, log)
        except BaseException as error:
            end(process)
            if TAKEN not in str(error) or attempt == TRIES:
                raise
        else:
            break
    return process, port


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def options(root: Path) -> list[str]:
    """Of OPTIONS, those that this WebUI knows: the forks lack some and have others."""
    text = "".join((root / name).read_text(encoding="utf-8") for name in ARGUMENTS if (root / name).exists())
    allowed = f"--gradio-allowed-path={root}"  # gradio 4 serves no scripts from beside the data folder
    return [option for option in [*OPTIONS.split(), allowed] if f'"{option.partition("=")[0]}"' in text]


def wait_for(process: subprocess.Popen, log: Path) -> None:
    """By its log: a request that comes while the API is being set up ends the WebUI."""
    deadline = time.monotonic() + START
    ended = False
    while True:
        said = log.read_text(encoding="utf-8", errors="replace")
        if "Startup time:" in said:
            return
        if ended or time.monotonic() > deadline:
            raise AssertionError("the WebUI does not start:\n" + said[-3000:])
        ended = process.poll() is not None  # then its last words are read
        time.sleep(0.5)


def webui_folder() -> Path | None:
    """Where a WebUI 1.10.1 or one of its forks is installed, with its environment (`venv`): $WEBUI_DIR."""
    named = os.environ.get("WEBUI_DIR")
    return Path(named).resolve() if named else None
