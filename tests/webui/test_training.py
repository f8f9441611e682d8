"""A training inside the real WebUI, through the extension's API: from pictures to the model that txt2img draws with.

Needs $WEBUI_DIR and, in $DREAMBOOTH_EXT_ENVIRONMENT, the trainer's environment over that WebUI; skipped without.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
from typing import Any

import pytest

from dreambooth_ext.host.environment.environment import Environment
from dreambooth_ext.host.environment.layout import FOLDER_VARIABLE
from tests import training
from tests.webui.server import SETTINGS, webui_folder
from tests.webui.test_host import Client, prepared, running_with, started  # noqa: F401 - a fixture


def is_ready() -> bool:
    return bool(os.environ.get(FOLDER_VARIABLE)) and Environment().status().state == "ready"


pytestmark = [
    pytest.mark.skipif(webui_folder() is None, reason="$WEBUI_DIR names no WebUI"),
    pytest.mark.skipif(not is_ready(), reason=f"${FOLDER_VARIABLE} names no environment that is ready"),
]
API = "dreambooth/v1"


def settings(webui: Client, **more: Any) -> dict[str, Any]:
    folder = webui.data / "my pictures"
    for number in range(3):
        training.draw(folder / f"{number}.png", number)
    base = webui.checkpoints / "one.safetensors"
    return {**training.USUAL, "base_model": str(base), "instance_data_dir": str(folder), **more}


def start(webui: Client, config: dict[str, Any], **wishes: Any) -> str:
    return webui.call(f"{API}/runs", {"config": config, **wishes})["id"]


def wait(webui: Client, run: str, *statuses: str, seconds: float = 240) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        found = webui.call(f"{API}/runs/{run}")
        if found["status"] in statuses:
            return found
        assert found["status"] != "failed" and time.monotonic() < deadline, found
        time.sleep(0.2)


def settle(webui: Client, chosen: str = "", other_than: str = "") -> None:
    """Until the WebUI has its models back, and that one is chosen."""
    webui.run("exec('from dreambooth_ext.host.webui import extension', globals())")
    deadline = time.monotonic() + 60
    while True:
        away, title = webui.run("extension.service().host.later.away"), webui.model()["chosen"]
        if not away and title.startswith(chosen) and title != other_than:
            return
        assert time.monotonic() < deadline, (away, title)
        time.sleep(0.2)


def refused(webui: Client) -> bool:
    try:
        webui.draw()
    except urllib.error.HTTPError as error:
        return error.code == 503 and "training is using the device" in json.loads(error.read())["detail"]
    return False


def test_from_pictures_to_selected_and_then_trained_further(started):  # noqa: F811
    webui = started
    before = webui.draw()
    config = settings(webui, max_train_steps=12, checkpointing_steps=6)
    run = start(webui, config, select="every", while_training="refuse")
    wait(webui, run, "training", "saving", "done")
    assert refused(webui), "while it trains"
    assert wait(webui, run, "done")["step"] == 12
    settle(webui, "taught.safetensors")
    first, title = webui.draw(), webui.model()["chosen"]
    assert first != before
    assert {path.name for path in webui.checkpoints.glob("taught*.safetensors")} >= {"taught.safetensors"}
    published = [
        event for event in webui.call(f"{API}/runs/{run}/events?after=0")["events"] if event["type"] == "published"
    ]
    assert published and published[-1]["selected"] and published[-1]["title"] == title

    webui.call(f"{API}/runs/{run}/commands", {"command": "continue", "max_train_steps": 24})
    assert wait(webui, run, "training", "saving") and wait(webui, run, "done")["step"] == 24
    settle(webui, "taught.safetensors", other_than=title if " [" in title else "")  # Forge's have no hash
    assert webui.draw() not in (first, before)


def test_a_trained_word_is_known_to_the_very_next_picture(started):  # noqa: F811
    webui = started
    prompt = "a photo of learntword"
    before = webui.draw(prompt=prompt)
    word = {"method": "textual_inversion", "placeholder_token": "learntword", "initializer_token": "photo"}
    config = settings(webui, **word, name="learntword", max_train_steps=6, learning_rate=0.1, save_format="safetensors")
    del config["instance_prompt"], config["text_encoder_steps"]
    run = start(webui, config, while_training="refuse")
    wait(webui, run, "done")
    settle(webui)
    assert (webui.folder("textual_inversion") / "learntword.safetensors").exists()
    assert webui.draw(prompt=prompt) != before
    told = webui.call(f"{API}/runs/{run}/events?after=0")["events"]
    assert not [event for event in told if event["type"] == "warning" and "lists" in str(event)]


def test_a_training_outlives_reload_ui_and_a_killed_webui(tmp_path):
    """Meanwhile Generate is refused, by each of them; the model is published by the last and selected."""
    data = prepared(tmp_path / "my data")
    with running_with(data) as webui:
        webui.call("sdapi/v1/options", {**SETTINGS, "sd_model_checkpoint": "one.safetensors"})
        before = webui.draw()
        run = start(webui, settings(webui, name="outlived", max_train_steps=20000), while_training="refuse")
        wait(webui, run, "training")
        assert refused(webui)
        webui.reload_ui()
        assert webui.call(f"{API}/runs/{run}")["status"] == "training" and refused(webui)
    with running_with(data) as webui:
        step = wait(webui, run, "training")["step"]
        assert refused(webui)
        webui.call(f"{API}/runs/{run}/commands", {"command": "stop_and_save"})
        assert wait(webui, run, "stopped", "done")["step"] >= step > 0
        settle(webui, "outlived_")
        assert webui.draw() != before
        base = webui.model()["base"]
        assert "outlived_" in base


def test_generating_waits_for_a_training(started):  # noqa: F811
    webui = started
    run = start(webui, settings(webui, name="waited", max_train_steps=30), while_training="wait", select="never")
    wait(webui, run, "training")
    webui.draw()
    assert webui.call(f"{API}/runs/{run}")["status"] == "done"
    settle(webui)
    assert (webui.checkpoints / "waited.safetensors").exists()


def test_a_killed_training_gives_the_card_back(started):  # noqa: F811
    webui = started
    before = webui.draw()
    run = start(webui, settings(webui, name="killed", max_train_steps=1000), while_training="refuse")
    os.kill(wait(webui, run, "training")["pid"], 9)
    found = None
    deadline = time.monotonic() + 60
    while not found or found["status"] != "failed":
        assert time.monotonic() < deadline, found
        found = webui.call(f"{API}/runs/{run}")
        time.sleep(0.2)
    settle(webui)
    assert webui.draw() == before
