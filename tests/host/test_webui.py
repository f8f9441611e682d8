"""The WebUI as the host, in the stand-in: models move and come back, new models are listed, selected, read anew.

`PROBE` is an extension that makes the WebUI's own process do what a test asks, as the service does it there.
"""

from __future__ import annotations

import base64
import concurrent.futures
import io
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dreambooth_ext.files import write_text
from tests.host.standin import running

PROBE = """
import threading
from pathlib import Path
from modules import script_callbacks, sd_models, shared
from dreambooth_ext.host.webui import WebUI

host, kept = WebUI(), {}
away = threading.Event()


def training(mode):
    with host.handed_over(mode):
        kept["entered"] = True
        away.wait()
        kept["entered"] = False


def begin(mode):
    away.clear()
    kept["thread"] = threading.Thread(target=training, args=(mode,))
    kept["thread"].start()


def finish():
    away.set()
    if "thread" in kept:
        kept["thread"].join(20)
        return not kept["thread"].is_alive()


def fail():
    try:
        with host.handed_over("refuse"):
            raise KeyError
    except KeyError:
        return "raised"


def attempt(path):
    try:
        return host.select(Path(path))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def model():
    found = sd_models.model_data.sd_model
    return {"device": getattr(found, "device", None), "loads": sd_models.loads, "titles": sd_models.checkpoint_tiles(),
            "chosen": shared.opts.sd_model_checkpoint, "base": host.current_base(), "entered": kept.get("entered")}


def started(demo, app):
    def run(body: dict):
        return {"value": eval(body["code"], globals())}

    app.add_api_route("/probe", run, methods=["POST"])


script_callbacks.on_app_started(started)
"""
KINDS = {"a1111": 3, "forge": 4, "classic": 3}


class WebUI:
    def __init__(self, standin: running.Standin):
        self.standin = standin

    def call(self, route: str, content: Any = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.standin.address}/{route}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def run(self, code: str) -> Any:
        return self.call("probe", {"code": code})["value"]

    def model(self) -> dict[str, Any]:
        return self.run("model()")

    def draw(self) -> tuple[int, int, int]:
        answer = self.call("sdapi/v1/txt2img", {"prompt": "a photo", "seed": 1})
        with Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))) as picture:
            return picture.getpixel((60, 60))

    def generate(self) -> tuple[list, str]:
        """As the page's button does: (pictures, text below them)."""
        config = self.call("config")
        button = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "txt2img_generate")

        def starts(dependency: dict[str, Any]) -> bool:
            targets = dependency["targets"]
            return any(target == button or target == [button, "click"] for target in targets)

        index = next(i for i, dependency in enumerate(config["dependencies"]) if starts(dependency))
        answer = self.call("run/predict", {"fn_index": index, "data": ["task(1)", "a photo", ""], "session_hash": "x"})
        return answer["data"][0], answer["data"][2]

    def wait(self, condition) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = self.model()
            if condition(found):
                return found
            time.sleep(0.1)
        raise AssertionError(f"still {found}\n{self.standin.said()[-2000:]}")

    def begin(self, mode: str) -> None:
        self.run(f"begin({mode!r})")
        self.wait(lambda found: found["entered"])


@pytest.fixture(params=KINDS, scope="module")
def started(request, tmp_path_factory):
    data = tmp_path_factory.mktemp("my data")
    prepare(data)
    options = ["--api", "--like", request.param, "--no-gradio-queue"]
    with running.running(data, gradio=KINDS[request.param], options=options) as standin:
        yield WebUI(standin)


@pytest.fixture
def webui(started):
    """As at the start: two checkpoints, the first one chosen."""
    yield started
    started.run("finish()")
    for path in started.standin.checkpoints.iterdir():
        if path.stem not in ("one", "two"):
            path.unlink()
    started.call("sdapi/v1/refresh-checkpoints", {})
    started.call("sdapi/v1/options", {"sd_model_checkpoint": "one.safetensors"})


def prepare(data: Path) -> None:
    running.install_extension(data, "zz extension")
    write_text(data / "extensions" / "zzz probe" / "scripts" / "probe.py", PROBE)
    running.add_checkpoint(data, "one.safetensors", b"first")
    running.add_checkpoint(data, "two.safetensors", b"second")


def test_the_model_leaves_the_device_and_comes_back(webui):
    before = webui.draw()
    for mode in ("refuse", "wait"):
        webui.begin(mode)
        assert webui.model()["device"] == "cpu"
        assert webui.run("finish()")
        assert webui.draw() == before
        assert webui.model()["device"] == "cuda"


def test_the_model_stays_when_the_card_is_shared(webui):
    before = webui.draw()
    webui.begin("share")
    assert webui.model()["device"] == "cuda"
    assert webui.draw() == before
    assert webui.run("finish()")


def test_an_error_inside_brings_the_model_back_too(webui):
    before = webui.draw()
    assert webui.run("fail()") == "raised"
    assert webui.draw() == before


def test_generating_is_refused_politely(webui):
    before = webui.draw()
    webui.begin("refuse")
    with pytest.raises(urllib.error.HTTPError) as refused:
        webui.draw()
    answer = json.loads(refused.value.read())
    assert refused.value.code == 503 and "training has the graphics card" in answer["detail"]
    pictures, text = webui.generate()  # no picture, and the reason where a picture's text is
    assert not pictures and "training has the graphics card" in text and "error" not in text
    assert webui.run("finish()")
    assert webui.draw() == before
    assert webui.generate()[0]


def test_generating_waits(webui):
    before = webui.draw()
    webui.begin("wait")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        drawing = pool.submit(webui.draw)
        time.sleep(1)
        assert not drawing.done()
        assert webui.run("finish()")
        assert drawing.result(20) == before


@pytest.mark.parametrize("mode", ["refuse", "wait"])
def test_the_checkpoint_can_be_changed_meanwhile(webui, mode):
    first = webui.draw()
    webui.begin(mode)
    began = time.monotonic()
    webui.call("sdapi/v1/options", {"sd_model_checkpoint": "two.safetensors"})
    assert time.monotonic() - began < 3, "the page would hang"
    assert webui.model()["base"].endswith("two.safetensors")
    assert webui.run("finish()")
    assert webui.draw() != first
    assert webui.model()["base"].endswith("two.safetensors")


def test_a_published_checkpoint_is_listed_and_selected(webui):
    first = webui.draw()
    path = running.add_checkpoint(webui.standin.data, "trained.safetensors", b"trained")
    webui.run(f"host.refresh('checkpoint', Path({str(path)!r}))")
    assert any(title.startswith("trained") for title in webui.model()["titles"])
    title = webui.run(f"host.select(Path({str(path)!r}))")
    assert title.startswith("trained.safetensors [") and webui.model()["chosen"] == title
    assert title in webui.model()["titles"] and len(webui.model()["titles"]) == 3
    assert webui.draw() != first
    saved = json.loads((webui.standin.data / "config.json").read_text(encoding="utf-8"))
    assert saved["sd_model_checkpoint"] == title


def test_selecting_during_a_training_takes_effect_after_it(webui):
    first = webui.draw()
    path = running.add_checkpoint(webui.standin.data, "trained.safetensors", b"trained")
    for mode in ("refuse", "wait"):
        webui.begin(mode)
        webui.run(f"host.refresh('checkpoint', Path({str(path)!r}))")
        title = webui.run(f"host.select(Path({str(path)!r}))")
        found = webui.model()
        assert found["chosen"] == title and found["device"] == "cpu" and title in found["titles"]
        assert webui.run("finish()")
        second = webui.draw()
        assert second != first
        path, first = running.add_checkpoint(webui.standin.data, "more.safetensors", b"more"), second


def test_an_overwritten_checkpoint_is_read_anew(webui):
    path = running.add_checkpoint(webui.standin.data, "trained.safetensors", b"trained")
    webui.run(f"host.refresh('checkpoint', Path({str(path)!r}))")
    titles = [webui.run(f"host.select(Path({str(path)!r}))")]
    colours = [webui.draw()]
    for number, mode in enumerate((None, "refuse", "wait")):
        if mode:
            webui.begin(mode)
        path.write_bytes(b"trained longer: %d" % number)
        webui.run(f"host.refresh('checkpoint', Path({str(path)!r}))")
        if number != 1:  # once only published, not selected: it is the one in use
            titles.append(webui.run(f"host.select(Path({str(path)!r}))"))
        if mode:
            assert webui.run("finish()")
        colours.append(webui.draw())
    assert len(set(colours)) == 4 and len(set(titles)) == 3
    assert len(webui.model()["titles"]) == 3  # one entry for one file


def test_a_damaged_checkpoint_is_told_and_changes_nothing(webui):
    before = webui.draw()
    path = running.add_checkpoint(webui.standin.data, "bad.safetensors", b"broken")
    if webui.run("hasattr(sd_models.model_data, 'forge_hash')"):
        pytest.skip("Forge reads a checkpoint when it draws")
    said = webui.run(f"attempt({str(path)!r})")
    assert said.startswith("UserError: ") and "could not load bad.safetensors" in said
    assert webui.draw() == before
