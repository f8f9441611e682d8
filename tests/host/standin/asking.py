"""Asking a WebUI, real or stand-in, through its API and its page, and making its process do what a test wants.

`PROBE` is an extension of its own that runs what is posted to it where our service would run it.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import time
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth_ext.core.system.files import write_text

from . import running

PROBE = """
import inspect, sys, tempfile, threading, types
from pathlib import Path
from modules import call_queue, devices, processing, script_callbacks, sd_models, shared
from dreambooth_ext.core.config.devices import plain
from dreambooth_ext.host.webui.webui_forks import WebUI, memory_manager

sd_hijack = sys.modules.get("modules.sd_hijack")
fresh = "probe_kept" not in sys.modules  # else, this is after a "Reload UI"
it = sys.modules.setdefault("probe_kept", types.SimpleNamespace(host=None, kept={}, moves=[], away=threading.Event()))
it.host = it.host or WebUI()
host, kept, moves, away = it.host, it.kept, it.moves, it.away


def recorded(module, name):
    original = getattr(module, name)

    def move(*arguments, **named):
        moves.append(name)
        return original(*arguments, **named)

    setattr(module, name, move)


def training(mode, device):
    with host.handed_over(mode, device or plain(str(devices.device))):
        kept["entered"] = True
        away.wait()
        kept["entered"] = False


def begin(mode, device=None):
    away.clear()
    kept["thread"] = threading.Thread(target=training, args=(mode, device))
    kept["thread"].start()


def finish():
    away.set()
    if "thread" in kept:
        kept["thread"].join(60)
        return not kept["thread"].is_alive()


def fail():
    try:
        with host.handed_over("refuse", plain(str(devices.device))):
            raise KeyError
    except KeyError:
        return "raised"


def attempt(path):
    try:
        return host.select(Path(path))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def caught(action):
    try:
        return str(action())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def in_queue(action):
    with call_queue.queue_lock:
        return caught(action)


def merger_needs():
    return len(inspect.signature(sys.modules["modules.extras"].run_modelmerger).parameters)


def draw_without_scripts():
    folder = kept.setdefault("samples", tempfile.mkdtemp())
    settings = {"steps": 2, "width": 64, "height": 64, "outpath_samples": folder}
    p = processing.StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model, prompt="a photo", seed=1)
    for name, value in settings.items():
        setattr(p, name, value)
    p.scripts = None
    with call_queue.queue_lock:
        return len(processing.process_images(p).images)


def model():
    found = sd_models.model_data.sd_model
    return {"device": str(getattr(found, "device", None)), "moves": moves[-2:], "entered": kept.get("entered"),
            "titles": sd_models.checkpoint_tiles(), "chosen": shared.opts.sd_model_checkpoint,
            "base": host.current_base()}


def started(demo, app):
    if fresh:
        for name in ("unload_all_models", "load_models_gpu"):
            if hasattr(memory_manager(), name):
                recorded(memory_manager(), name)
        if not memory_manager():
            recorded(sd_models, "send_model_to_cpu")
            recorded(sd_models, "send_model_to_device")

    def run(body: dict):
        return {"value": eval(body["code"], globals())}

    app.add_api_route("/probe", run, methods=["POST"])


script_callbacks.on_app_started(started)
"""


class Client:
    """`data` holds the WebUI's models, settings and extensions; its checkpoints' content is any text."""

    settings: dict[str, Any] = {"prompt": "a photo", "seed": 1}  # noqa: RUF012 - read only

    def __init__(self, address: str, data: Path):
        self.address, self.data = address, data
        self.checkpoints = data / "models" / "Stable-diffusion"

    def add(self, name: str, content: str) -> Path:
        """A checkpoint, perhaps in the place of another, that draws by its content."""
        return running.add_checkpoint(self.data, name, content.encode())

    def call(self, route: str, content: Any = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.address}/{route}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def run(self, code: str) -> Any:
        return self.call("probe", {"code": code})["value"]

    def model(self) -> dict[str, Any]:
        return self.run("model()")

    def refresh(self, kind: str, path: Path) -> None:
        self.run(f"host.refresh({kind!r}, Path({str(path)!r}))")

    def select(self, path: Path) -> str:
        return self.run(f"host.select(Path({str(path)!r}))")

    def is_away(self) -> bool:
        """Whether the model is off the device."""
        return self.model()["device"] == "cpu"

    def draw(self, **settings: Any) -> bytes:
        """A picture's pixels."""
        answer = self.call("sdapi/v1/txt2img", {**self.settings, **settings})
        with Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))) as picture:
            return picture.convert("RGB").tobytes()

    def generate(self) -> tuple[list, str]:
        """As the page's button does: (pictures, text below them)."""
        config = self.call("config")
        components = {component["id"]: component["props"] for component in config["components"]}
        texts = {component["id"] for component in config["components"] if component["type"] == "textbox"}
        by_name = {props.get("elem_id"): number for number, props in components.items()}
        button = by_name["txt2img_generate"]
        index, event = next(
            (index, event)
            for index, event in enumerate(config["dependencies"])
            if (button in event["targets"] or [button, "click"] in event["targets"])
            and len(event["outputs"]) > 2  # else, it is an extension that listens, too
        )
        small = {by_name.get(f"txt2img_{name}"): value for name, value in (("width", 64), ("height", 64), ("steps", 2))}
        values = [small.get(number, components[number].get("value")) for number in event["inputs"]]
        for place, number in enumerate(event["inputs"]):
            if values[place] is None and components[number].get("multiselect"):
                values[place] = []
            if values[place] is None and number in texts:  # as the page has it; Forge Neo refuses a prompt of None
                values[place] = ""
        values[0] = "task(1)"
        answer = self.call("run/predict", {"fn_index": index, "data": values, "session_hash": "x"})
        names = [components[number].get("elem_id") for number in event["outputs"]]
        shown = dict(zip(names, answer["data"], strict=True))
        pictures = shown["txt2img_gallery"]  # Forge Neo's is an update of it
        return pictures["value"] if isinstance(pictures, dict) else pictures, shown["html_info_txt2img"]

    def picture(self) -> str:
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), (200, 100, 50)).save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode()

    def has_manager(self) -> bool:
        """Whether it is one of Forge's relatives, which move models by themselves."""
        return bool(self.run("'hypernetwork' in host.lacks()"))

    def begin(self, mode: str, device: str | None = None) -> None:
        """A training has the device until `finish`: the WebUI's, unless another is named."""
        self.run(f"begin({mode!r}, {device!r})")
        deadline = time.monotonic() + 30
        while not self.model()["entered"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def finish(self) -> None:
        assert self.run("finish()") is not False

    def reload_ui(self) -> None:
        """As the button of that name does."""
        before = self.run("id(shared.demo)")
        self.run("shared.state.request_restart()")
        deadline = time.monotonic() + 120
        while True:
            time.sleep(0.5)
            with contextlib.suppress(OSError, RuntimeError):
                if self.run("id(shared.demo)") != before:
                    return
            assert time.monotonic() < deadline


def prepare(data: Path) -> None:
    """Our extension, linked, and the probe, in folders that no program would choose."""
    running.install_extension(data, "DreamBooth расширение")
    write_text(data / "extensions" / "zz probe" / "scripts" / "probe.py", PROBE)
