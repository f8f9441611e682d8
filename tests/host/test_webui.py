"""The WebUI as the host: models move and come back, new models are listed, selected, read anew.

In the stand-in of three hosts here; tests/webui/test_host.py has the same tests run in the real one.
"""

from __future__ import annotations

import concurrent.futures
import json
import time
import urllib.error

import pytest

from tests.host.standin import asking, running
from tests.host.standin.asking import Client

KINDS = {"a1111": 3, "forge": 4, "classic": 3}


@pytest.fixture(params=KINDS, scope="module")
def started(request, tmp_path_factory):
    data = tmp_path_factory.mktemp("my data")
    asking.prepare(data)
    running.add_checkpoint(data, "one.safetensors", b"first")
    running.add_checkpoint(data, "two.safetensors", b"second")
    options = ["--api", "--like", request.param, "--no-gradio-queue"]
    with running.running(data, gradio=KINDS[request.param], options=options) as standin:
        yield Client(standin.address, data)


@pytest.fixture
def webui(started):
    """As at the start: two checkpoints, the first one chosen."""
    yield started
    started.finish()
    for path in started.checkpoints.iterdir():
        if path.stem not in ("one", "two"):
            path.unlink()
    started.call("sdapi/v1/refresh-checkpoints", {})
    started.call("sdapi/v1/options", {"sd_model_checkpoint": "one.safetensors"})


def test_the_model_leaves_the_device_and_comes_back(webui):
    before = webui.draw()
    for mode in ("refuse", "wait"):
        webui.begin(mode)
        assert webui.is_away()
        webui.finish()
        assert webui.draw() == before
        assert not webui.is_away()


def test_the_model_stays_when_the_card_is_shared(webui):
    before = webui.draw()
    webui.begin("share")
    assert not webui.is_away()
    assert webui.draw() == before
    webui.finish()


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
    webui.finish()
    assert webui.draw() == before
    assert webui.generate()[0]


def test_generating_waits(webui):
    before = webui.draw()
    webui.begin("wait")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        drawing = pool.submit(webui.draw)
        time.sleep(1)
        assert not drawing.done()
        webui.finish()
        assert drawing.result(60) == before


@pytest.mark.parametrize("mode", ["refuse", "wait"])
def test_the_checkpoint_can_be_changed_meanwhile(webui, mode):
    first = webui.draw()
    webui.begin(mode)
    began = time.monotonic()
    webui.call("sdapi/v1/options", {"sd_model_checkpoint": "two.safetensors"})
    assert time.monotonic() - began < 3, "the page would hang"
    assert webui.model()["base"].endswith("two.safetensors")
    webui.finish()
    assert webui.draw() != first
    assert webui.model()["base"].endswith("two.safetensors")


def test_a_published_checkpoint_is_listed_and_selected(webui):
    first = webui.draw()
    path = webui.add("trained.safetensors", "trained")
    webui.refresh("checkpoint", path)
    assert any(title.startswith("trained") for title in webui.model()["titles"])
    title = webui.select(path)
    assert title.startswith("trained.safetensors") and webui.model()["chosen"] == title
    assert title in webui.model()["titles"] and len(webui.model()["titles"]) == 3
    assert webui.draw() != first
    saved = json.loads((webui.data / "config.json").read_text(encoding="utf-8"))
    assert saved["sd_model_checkpoint"] == title


def test_selecting_during_a_training_takes_effect_after_it(webui):
    first = webui.draw()
    path = webui.add("trained.safetensors", "trained")
    for mode in ("refuse", "wait"):
        webui.begin(mode)
        webui.refresh("checkpoint", path)
        title = webui.select(path)
        found = webui.model()
        assert found["chosen"] == title and title in found["titles"] and webui.is_away()
        webui.finish()
        second = webui.draw()
        assert second != first
        path, first = webui.add("more.safetensors", "more"), second


def test_an_overwritten_checkpoint_is_read_anew(webui):
    path = webui.add("trained.safetensors", "trained")
    webui.refresh("checkpoint", path)
    webui.select(path)
    chosen = "sd_models.select_checkpoint().title"
    titles, colours = [webui.run(chosen)], [webui.draw()]
    for number, mode in enumerate((None, "refuse", None, "wait")):
        if mode:
            webui.begin(mode)
        webui.add(path.name, f"trained longer: {number}")
        webui.refresh("checkpoint", path)
        if number in (0, 3):  # between them only published, not selected: it is the one in use
            assert webui.select(path) == webui.model()["chosen"]
            titles.append(webui.run(chosen))
        if mode:
            webui.finish()
        colours.append(webui.draw())
    assert len(set(colours)) == 5 and len(set(titles)) == 3
    assert len(webui.model()["titles"]) == 3  # one entry for one file


def test_a_damaged_checkpoint_is_told_and_changes_nothing(webui):
    before = webui.draw()
    path = webui.add("bad.safetensors", "broken")
    if webui.run("hasattr(sd_models.model_data, 'forge_hash')"):
        pytest.skip("Forge reads a checkpoint when it draws")
    said = webui.run(f"attempt({str(path)!r})")
    assert said.startswith("UserError: ") and "could not load bad.safetensors" in said
    assert webui.draw() == before


def test_the_ui_is_reloaded_during_a_training(webui):
    before = webui.draw()
    webui.begin("refuse")
    webui.reload_ui()
    with pytest.raises(urllib.error.HTTPError) as refused:
        webui.draw()
    assert refused.value.code == 503
    assert webui.call("dreambooth/v1/version")["host"]
    webui.finish()
    assert webui.draw() == before
