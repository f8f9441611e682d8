"""The extension inside the real WebUI: test_webui_forks.py's tests, and what only the real one can show.

Needs $WEBUI_DIR, the folder of a WebUI 1.10.1 with its environment; skipped without.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dreambooth_ext.core.system.files import replacing, write_text
from dreambooth_ext.host.environment.interpreter import clean_variables
from tests import tiny
from tests.host.standin import asking
from tests.host.webui.test_webui_forks import *  # noqa: F403 - the tests, and the fixture `webui`
from tests.webui.server import SETTINGS, running, webui_folder

pytestmark = pytest.mark.skipif(webui_folder() is None, reason="$WEBUI_DIR names no WebUI")

SMALL = {"prompt": "a photo of zkz", "seed": 1, "steps": 2, "width": 64, "height": 64, "sampler_name": "Euler"}
WIDTH = 16  # of the tiny model's text encoder


class Client(asking.Client):
    settings = SMALL

    def add(self, name: str, content: str) -> Path:
        path = self.checkpoints / name
        write_checkpoint(self.data / "base" / "tiny-sd1.safetensors", path, content)
        return path

    def is_away(self) -> bool:  # everything is on the CPU here: by what the WebUI was told to do
        return self.model()["moves"][-1:] in (["send_model_to_cpu"], ["unload_all_models"])

    def has(self, what: str) -> bool:
        """A feature of the WebUI, by the expression that finds it there."""
        return self.run(f"bool({what})")

    def folder(self, kind: str) -> Path:
        """Where models of a kind are published to."""
        return Path(self.run(f"str(host.folders()[{kind!r}])"))

    def said(self) -> str:
        return (self.data / "log.txt").read_text(encoding="utf-8", errors="replace")


def write_checkpoint(base: Path, path: Path, content: str) -> None:
    """The tiny model with weights that follow from `content`, and its yaml beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clip = f"{base.stem}-clip"
    yaml = base.with_suffix(".yaml").read_text(encoding="utf-8").replace(clip, str(base.parent / clip))
    write_text(path.with_suffix(".yaml"), yaml)
    if content == "broken":
        path.write_bytes(b"broken")
        return
    factor = 0.8 + hashlib.sha256(content.encode()).digest()[0] / 256
    state = load_file(base)
    for key, value in state.items():
        if key.startswith("model.diffusion_model."):
            state[key] = value * factor
        elif key.startswith("cond_stage_model.") and value.is_floating_point():
            state[key] = value + 0.02  # the WebUI divides by the encoder's mean, which a random final norm makes 0
    with replacing(path) as temporary:
        save_file(state, temporary)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    data = prepared(tmp_path_factory.mktemp("my data"))
    with running_with(data) as client:
        client.call("sdapi/v1/options", {**SETTINGS, "sd_model_checkpoint": "one.safetensors"})
        yield client


def prepared(data: Path) -> Path:
    """A data folder with two checkpoints, our extension and the probe."""
    tiny.single_file(data / "base")
    client = Client("", data)
    client.add("one.safetensors", "first")
    client.add("two.safetensors", "second")
    asking.prepare(data)
    return data


@contextlib.contextmanager
def running_with(data: Path) -> Iterator[Client]:
    """The WebUI, killed in the end."""
    with running(webui_folder(), data) as webui:
        yield Client(webui.address, data)


def test_the_extension_is_there(webui):
    """Its tab, its settings with their defaults, its API, and no error of its own in the console."""
    config = json.dumps(webui.call("config"))
    assert '"tab_dreambooth_ext"' in config and 'id=\\"dreambooth_ext\\"' in config.replace('\\\\"', '\\"')
    assert '"setting_dreambooth_ext_while_training"' in config
    options = "shared.opts.dreambooth_ext_while_training", "shared.opts.dreambooth_ext_publish"
    assert [webui.run(option) for option in options] == ["refuse", True]
    assert webui.call("dreambooth/v1/version")["host"].split()[0] == family(webui_folder())
    assert "dreambooth_ext" not in webui.said().partition("Startup time:")[0]  # as in a traceback


def family(root: Path) -> str:
    """By the modules that it loads models with, and its options."""
    if (root / "backend").is_dir():
        return "Forge"
    if not (root / "ldm_patched").is_dir():
        return "AUTOMATIC1111"
    options = (root / "modules" / "cmd_args.py").read_text(encoding="utf-8")
    return "reForge" if '"--hypernetwork-dir"' in options else "Forge-classic"


def test_an_embedding_is_listed_and_read_anew(webui):
    path = webui.folder("textual_inversion") / "zkz.safetensors"
    pictures = [webui.draw()]
    for number in range(2):
        vectors = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"emb_params": vectors}, path)
        webui.refresh("textual_inversion", path)
        if webui.has("hasattr(getattr(sd_hijack, 'model_hijack', None), 'embedding_db')"):
            assert "zkz" in webui.call("sdapi/v1/embeddings")["loaded"]
        pictures.append(webui.draw())
    assert len(set(pictures)) == 3
    path.unlink()


@pytest.mark.parametrize("mode", ["", "refuse"])
def test_a_lora_is_listed_and_read_anew(webui, mode):
    path = webui.folder("lora") / f"ours{mode}.safetensors"
    prompt = f"a photo of zkz <lora:{path.stem}:1>"
    pictures = [webui.draw(prompt=prompt)]
    for number in range(2):
        if mode:
            webui.begin(mode)
        save_lora(path, number)
        webui.refresh("lora", path)
        assert path.stem in [lora["name"] for lora in webui.call("sdapi/v1/loras")]
        if mode:
            webui.finish()
        pictures.append(webui.draw(prompt=prompt))
    assert len(set(pictures)) == 3
    path.unlink()


def save_lora(path: Path, seed: int) -> None:
    """On the text encoder's first projection."""
    generator = torch.Generator().manual_seed(seed)
    layer = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    parts = {"lora_up": (WIDTH, 4), "lora_down": (4, WIDTH)}
    state = {f"{layer}.{part}.weight": 3 * torch.randn(*size, generator=generator) for part, size in parts.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({**state, f"{layer}.alpha": torch.tensor(4.0)}, path)


def test_a_hypernetwork_is_listed(webui):
    path = webui.folder("hypernetwork") / "ours.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    webui.refresh("hypernetwork", path)
    if webui.has("'hypernetwork' in host.lacks()"):
        assert "does not support hypernetworks" in webui.run("host.lacks()['hypernetwork']")
    else:
        assert "ours" in [found["name"] for found in webui.call("sdapi/v1/hypernetworks")]
    path.unlink()


def test_a_model_that_was_never_loaded_stays_unloaded(webui):
    """As with --skip-load-model-at-start: nothing is loaded while a training has the card, and all works afterwards."""
    if not webui.has("hasattr(sd_models.model_data, 'was_loaded_at_least_once')"):
        pytest.skip("this WebUI loads a model only when it draws")
    before = webui.draw()
    webui.run("sd_models.model_data.set_sd_model(None)")
    webui.run("sd_models.model_data.loaded_sd_models.clear()")
    webui.run("setattr(sd_models.model_data, 'was_loaded_at_least_once', False)")
    webui.begin("refuse")
    pictures, text = webui.generate()
    assert not pictures and "training is using the device" in text
    assert webui.run("sd_models.model_data.sd_model is None")
    webui.finish()
    assert webui.draw() == before


def test_a_model_that_cannot_come_back_is_loaded_anew(webui):
    if webui.has("memory_manager()"):
        pytest.skip("this WebUI moves its models back by itself")
    before = webui.draw()
    webui.begin("refuse")
    webui.run("kept.update(send=sd_models.send_model_to_device)")
    webui.run("setattr(sd_models, 'send_model_to_device', None)")  # calling it fails, as with a full card
    webui.run("finish()")
    webui.run("setattr(sd_models, 'send_model_to_device', kept['send'])")
    assert webui.draw() == before


def launch(webui_root: Path, code: str, **variables: str) -> str:
    python = next(
        path for path in (webui_root / "venv/Scripts/python.exe", webui_root / "venv/bin/python") if path.exists()
    )
    done = subprocess.run(
        [str(python), "-c", code], cwd=webui_root, env=clean_variables(**variables), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FREEZE = "from importlib.metadata import distributions as d; print(sorted((i.name, i.version) for i in d()))"
INSTALL = "from modules import launch_utils; launch_utils.run_extension_installer({folder!r})"


def install(webui_root: Path, folder: Path, **variables: str) -> str:
    """Through the WebUI's own launcher."""
    return launch(webui_root, INSTALL.format(folder=str(folder)), COMMANDLINE_ARGS="", **variables)


def test_a_failing_install_ends_well_and_leaves_its_reason(tmp_path):
    root, folder = webui_folder(), asking.running.install_extension(tmp_path, "Моя папка", link=False)
    wheels = tmp_path / "no wheels"
    wheels.mkdir()
    before = launch(root, FREEZE)
    said = install(root, folder, DREAMBOOTH_EXT_WHEELS=str(wheels), DREAMBOOTH_EXT_ENVIRONMENT="")
    assert "ackages are missing in" in said and "The WebUI works without it" in said
    assert "ackages are missing" in (folder / "environment" / "failure.json").read_text(encoding="utf-8")
    assert launch(root, FREEZE) == before


START = """
import sys, time
import gradio, fastapi, uvicorn, PIL.Image, concurrent.futures  # what the WebUI has loaded by then
sys.path.insert(0, {folder!r})
began = time.process_time()
from dreambooth_ext.host.hosts import folder_host
from dreambooth_ext.host.service import service
from dreambooth_ext.host.web import routes
from dreambooth_ext.host.webui import extension, tab
service.Service(folder_host.FolderHost(__import__("pathlib").Path({data!r})))
tab.tabs()
ended = time.process_time()
with gradio.Blocks(analytics_enabled=False):  # what any tab costs: a tenth of a second with gradio 4
    gradio.HTML()
print((ended - began) - (time.process_time() - ended))
"""
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}  # as a user's has it: a source is compiled once, and not at each start


def test_it_adds_little_to_the_start(tmp_path):
    """In seconds of processor time: the machine may be busy."""
    code = START.format(folder=str(asking.running.REPOSITORY), data=str(tmp_path))
    spent = min(float(launch(webui_folder(), code, **COMPILED).split()[-1]) for _ in range(4))
    print(f"adds {spent:.3f} s")
    assert spent < 0.15
