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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dreambooth_ext.engine.architecture import Architecture, write_clip_folder
from dreambooth_ext.files import write_json, write_text
from dreambooth_ext.host.interpreter import clean_variables

START = 180  # seconds; it takes ten on an idle machine
# On the CPU and in float32, offline, with the scanner of pickles on.
OPTIONS = """--skip-prepare-environment --skip-torch-cuda-test --skip-version-check --api --no-gradio-queue
--use-cpu all --no-half --precision full --no-download-sd-model --do-not-download-clip"""
# Random numbers from the CPU, as `generate` draws.
SETTINGS = {"randn_source": "CPU", "live_previews_enable": False, "samples_save": False, "grid_save": False}
OPENCLIP = {"sd2": "ViT-H-14", "sdxl": "ViT-bigG-14"}  # the only names under which the WebUI makes these encoders

# Run by the WebUI as an extension: a yaml cannot say the size of an OpenCLIP encoder.
EXTENSION = """
import json, pathlib
import open_clip.factory
models = json.loads((pathlib.Path(__file__).parents[1] / "models.json").read_text(encoding="utf-8"))
open_clip.factory._MODEL_CONFIGS.update(models)
"""


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
        self.call("sdapi/v1/options", {"sd_model_checkpoint": name, **SETTINGS})

    def draw(self, **settings: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """txt2img: the picture, and what the WebUI says about it."""
        answer = self.call("sdapi/v1/txt2img", settings)
        with Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))) as picture:
            return np.asarray(picture.convert("RGB")), json.loads(answer["info"])


@contextlib.contextmanager
def running(root: Path, data: Path, encoders: dict[str, Architecture]) -> Iterator[WebUI]:
    """Start the WebUI installed in `root`, its models and settings in `data`.

    encoders: the architectures, by family, whose text encoders take the place of the full-size ones.
    """
    shrink(data, encoders)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    python = next(path for path in (root / "venv/Scripts/python.exe", root / "venv/bin/python") if path.exists())
    variables = clean_variables(HF_HOME=str(data / "hub"), HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", COMMANDLINE_ARGS="")
    command = [str(python), "launch.py", "--data-dir", str(data), "--port", str(port), *OPTIONS.split()]
    log = data / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=root, env=variables, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_for(process, log)
            yield WebUI(data, port)
        finally:
            process.kill()
            process.wait()


def wait_for(process: subprocess.Popen, log: Path) -> None:
    """By its log: a request that comes while the API is being set up ends the WebUI."""
    end = time.monotonic() + START
    said = ""
    while time.monotonic() < end and process.poll() is None:
        said = log.read_text(encoding="utf-8", errors="replace")
        if "Startup time:" in said:
            return
        time.sleep(0.5)
    raise AssertionError("the WebUI does not start:\n" + said[-3000:])


def shrink(data: Path, encoders: dict[str, Architecture]) -> None:
    """The text encoders' sizes: OpenCLIP's by an extension, and those of SDXL's CLIP where the Hub keeps its files."""
    extension = data / "extensions" / "tiny-encoders"
    models = {name: openclip_config(encoders[family]) for family, name in OPENCLIP.items()}
    write_json(extension / "models.json", models)
    write_text(extension / "scripts" / "tiny_encoders.py", EXTENSION)
    cached = data / "hub" / "hub" / "models--openai--clip-vit-large-patch14"
    write_text(cached / "refs" / "main", "0")
    write_clip_folder(encoders["sdxl"].text_encoders[0], cached / "snapshots" / "0")


def openclip_config(architecture: Architecture) -> dict[str, Any]:
    """open_clip's configuration for the text encoder, and for a picture encoder, which the WebUI throws away."""
    text, slot = architecture.text_encoders[-1], architecture.family.text_slots[-1]
    return {
        "embed_dim": text["hidden_size"],
        "vision_cfg": {"image_size": 28, "layers": 1, "width": 64, "patch_size": 14},
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "width": text["hidden_size"],
            "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"] + slot.dropped_layers,
        },
    }


def webui_folder() -> Path | None:
    """Where a WebUI 1.10.1 with its environment (`venv`) and repositories is installed: $WEBUI_DIR."""
    named = os.environ.get("WEBUI_DIR")
    return Path(named).resolve() if named else None
